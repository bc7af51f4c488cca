/**
 * `--metrics`: the figures of a running session for Prometheus, by HTTP on the loopback address alone. It stands behind
 * the same renderer port as the screen (cli/wiring.ts), so what is told is the last frame that was shown.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { UsageError } from '../core/errors.ts';
import type { PairSnapshot } from '../core/events.ts';
import { isTerminal, PHASES } from '../core/phase.ts';
import type { Renderer } from '../core/ports.ts';
import { printable } from '../core/text.ts';

const HOST = '127.0.0.1';
/** Scrapers come one or two at a time. */
const MAX_CONNECTIONS = 16;
const REQUEST_TIMEOUT_MS = 2_000;
/** How often node:http looks for requests that have taken too long; its own 30 s would let them hold all connections. */
const LOOK_EVERY_MS = 1_000;
/** For a reader that does not take its answer. */
const IDLE_MS = 10_000;
const LONGEST_HEAD = 8 * 1024;
/** The text exposition format 0.0.4, which every release of Prometheus reads. */
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface MetricsServer {
  /** Where it is: `http://127.0.0.1:9121/metrics`. */
  readonly url: string;
  /** `inner`, with each frame kept for the next scrape. */
  watch(inner: Renderer): Renderer;
  /** Ends every connection. */
  close(): void;
}

/**
 * Serves `GET /metrics`, and nothing else, to who calls this machine by a name of its own: a web page whose host name
 * was made to mean 127.0.0.1 (DNS rebinding) sends that name, and gets 421.
 *
 * @param port on 127.0.0.1; 0: any free one
 * @param version of the program
 * @throws UsageError `metrics-port` where the port cannot be had
 */
export async function serveMetrics(port: number, version: string): Promise<MetricsServer> {
  const startedAt = new Date();
  let pairs: readonly PairSnapshot[] = [];
  const limits = {
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: LOOK_EVERY_MS,
    maxHeaderSize: LONGEST_HEAD,
  };
  const server = createServer(limits, (request, response) => {
    if (!isOwnName(request.headers.host)) {
      response.writeHead(421).end(`only for http://${HOST} and http://localhost\n`);
      return;
    }
    const [path] = (request.url ?? '').split('?');
    if (path !== '/metrics') {
      response.writeHead(404).end('only /metrics is here\n');
      return;
    }
    if (request.method !== 'GET') {
      response.writeHead(405, { Allow: 'GET' }).end('only GET\n');
      return;
    }
    response.writeHead(200, {
      'Content-Type': CONTENT_TYPE,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(metricsText({ startedAt, version }, pairs));
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = IDLE_MS;
  await listen(server, port);
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${HOST}:${taken}/metrics`,
    watch: (inner) => ({
      event: (event) => inner.event(event),
      frame: (frame, footer) => {
        pairs = frame;
        inner.frame(frame, footer);
      },
      say: (text) => inner.say(text),
      step: (text) => inner.step(text),
      close: () => inner.close(),
    }),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** With any port: behind a tunnel it is another one. */
function isOwnName(host: string | undefined): boolean {
  return /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i.test(host ?? '');
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, HOST, resolve);
  }).catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(`--metrics ${port}: the port cannot be listened on (${cause.code ?? 'unknown'})`, {
      code: 'metrics-port',
      hint: 'give another port, or 0 for any free one',
      cause,
    });
  });
  // what goes wrong behind this (no file left for a connection) must not end the session, nor keep it from its end
  server.on('error', () => undefined).unref();
}

// ---- the text --------------------------------------------------------------------------------------------------

interface SessionFigures {
  readonly startedAt: Date;
  readonly version: string;
}

/** A figure of each pair; null: nothing is known, and no sample is given. */
interface PairGauge {
  readonly name: string;
  readonly help: string;
  readonly read: (pair: PairSnapshot) => number | null;
}

const PAIR_GAUGES: readonly PairGauge[] = [
  {
    name: 'up',
    help: '1 while the session works for the pair, 0 behind its end',
    read: ({ phase }) => (isTerminal(phase) ? 0 : 1),
  },
  {
    name: 'lag_bytes',
    help: 'bytes of the stream that the target does not have yet',
    read: ({ lagBytes }) => lagBytes,
  },
  {
    name: 'lag_seconds',
    help: 'age of the oldest byte that the target does not have yet',
    read: ({ lagSeconds }) => lagSeconds,
  },
  {
    name: 'snapshot_bytes',
    help: 'bytes of the snapshot that have been taken',
    read: ({ snapshotBytes }) => snapshotBytes,
  },
  {
    name: 'snapshot_total_bytes',
    help: 'length of the snapshot, where the source says it',
    read: ({ snapshotTotal }) => snapshotTotal,
  },
  { name: 'keys', help: 'keys that were copied with the snapshot', read: ({ keys }) => keys },
  {
    name: 'source_keys',
    help: 'keys on the source when it was checked',
    read: ({ keysTotal }) => keysTotal,
  },
  {
    name: 'snapshot_bytes_per_second',
    help: 'speed of the copy',
    read: ({ bytesPerSecond }) => bytesPerSecond,
  },
  {
    name: 'commands_per_second',
    help: 'commands of the live stream',
    read: ({ commandsPerSecond }) => commandsPerSecond,
  },
  {
    name: 'paused',
    help: '1 while the operator lets nothing go to the target',
    read: ({ paused }) => (paused ? 1 : 0),
  },
  {
    name: 'divergences',
    help: 'commands that the target answered with an error that shows different data',
    read: ({ divergences }) => divergences,
  },
];

/** All figures in the text exposition format. Names from outside are escaped twice: for people, then for the format. */
export function metricsText(session: SessionFigures, pairs: readonly PairSnapshot[]): string {
  const names = distinctNames(pairs.map(({ pair }) => pair));
  const labelled = pairs.map((pair, index) => ({ pair, name: names[index] ?? pair.pair }));
  const lines = [
    ...family('up', '1 while the session runs', [[{}, 1]]),
    ...family('build_info', 'release of redis-cutover', [[{ version: session.version }, 1]]),
    ...family('session_start_time_seconds', 'when this session began, Unix time', [
      [{}, session.startedAt.getTime() / 1000],
    ]),
    ...family(
      'pairs',
      'pairs of the session by phase',
      PHASES.map((phase) => [{ phase }, pairs.filter((pair) => pair.phase === phase).length]),
    ),
    ...family(
      'pair_info',
      'servers, wave and feed of a pair',
      labelled.map(({ pair, name }) => [
        {
          pair: name,
          source: pair.source,
          target: pair.target,
          wave: pair.wave ?? '',
          feed: pair.feed ?? '',
        },
        1,
      ]),
    ),
    ...family(
      'pair_phase',
      '1 for the phase that a pair is in, 0 for the others',
      labelled.flatMap(({ pair, name }) =>
        PHASES.map((phase): Sample => [{ pair: name, phase }, pair.phase === phase ? 1 : 0]),
      ),
    ),
    ...PAIR_GAUGES.flatMap(({ name: gauge, help, read }) =>
      family(
        `pair_${gauge}`,
        help,
        labelled.flatMap(({ pair, name }): Sample[] => {
          const value = read(pair);
          return value === null ? [] : [[{ pair: name }, value]];
        }),
      ),
    ),
  ];
  return `${lines.join('\n')}\n`;
}

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

function family(name: string, help: string, samples: readonly Sample[]): string[] {
  const full = `redis_cutover_${name}`;
  return [
    `# HELP ${full} ${help}`,
    `# TYPE ${full} gauge`,
    ...samples.map(([labels, value]) => `${full}${labelText(labels)} ${value}`),
  ];
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(value: string): string {
  return printable(value).replaceAll('\\', '\\\\').replaceAll('"', '\\"');
}

/** Two names may look the same once they are cut and made printable: a scrape with one series twice is refused whole. */
function distinctNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    const shown = printable(name, 200);
    let label = shown;
    for (let copy = 2; taken.has(label); copy++) label = `${shown} #${copy}`;
    taken.add(label);
    return label;
  });
}
