/**
 * A TCP proxy that breaks connections at an exact byte: between the tool and a real server it makes the network
 * failures that no server can be told to make. Faults wait in a queue; each is used up by the first connection on
 * which its trigger has passed, so that a fault can be meant for the replication link or for the writer alone.
 */
import { connect, createServer, type Socket } from 'node:net';
import { atEnd, type Cleanup } from './server.ts';

/** As the tool sees it: what it sends, and what it is sent. */
export type Direction = 'to-server' | 'to-client';

export interface Fault {
  /** Texts that must have passed on one connection, in this order; the count begins behind the last one. */
  readonly after: readonly { readonly direction: Direction; readonly text: string }[];
  /** The fault happens when exactly this many further bytes have passed in `direction`. */
  readonly direction: Direction;
  readonly bytes: number;
  /**
   * FIN to both sides; RST to both; nothing passes any more, in any direction, and both stay open; or nothing at all:
   * the test is told that the place was passed, and does something elsewhere.
   */
  readonly how: 'close' | 'reset' | 'stall' | 'pass';
}

export interface FaultProxy {
  readonly port: number;
  /** `redis://host:port` */
  readonly uri: string;
  /** Queues a fault; resolves when it has happened. */
  fault(fault: Fault): Promise<void>;
  /** Forgets the faults that have not happened. */
  clear(): void;
  /** Breaks all connections that are open now. */
  cutAll(how: 'close' | 'reset'): void;
  /** While true new connections are closed at once. */
  refuse(refuse: boolean): void;
  /** While true nothing passes, not even the end of a connection; what comes waits, and goes on in its order. */
  hold(hold: boolean): void;
  /** From now on bytes go on in pieces of this size; null: as they come. */
  slice(pieceBytes: number | null): void;
  /** Connections to come lead to another port; open ones stay where they are. */
  toServer(port: number): void;
  /** Connections accepted so far, refused ones included. */
  connections(): number;
}

export interface ProxyOptions {
  /** Bytes go on in pieces of this size, each by itself; left out: as they come. */
  readonly pieceBytes?: number;
  /** Where to listen; left out: any free port of 127.0.0.1. */
  readonly at?: { readonly host: string; readonly port: number };
  /** The host of `toPort`; left out: 127.0.0.1. */
  readonly toHost?: string;
}

/** To `toPort`; stopped when the test ends. */
export async function faultProxy(
  t: Cleanup,
  toPort: number,
  options: ProxyOptions = {},
): Promise<FaultProxy> {
  const { at = { host: '127.0.0.1', port: 0 }, toHost = '127.0.0.1' } = options;
  const queue: Queued[] = [];
  const open = new Set<Passage>();
  const flow = new Flow(options.pieceBytes ?? null);
  let serverPort = toPort;
  let accepted = 0;
  let refusing = false;
  // half-open: the FIN of one side must not end the other before the proxy passes it on
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    accepted++;
    if (refusing) {
      client.on('error', () => {}).destroy();
      return;
    }
    const upstream = connect({ port: serverPort, host: toHost, noDelay: true, allowHalfOpen: true });
    const passage = new Passage(client, upstream, queue, flow);
    open.add(passage);
    for (const socket of [client, upstream]) {
      socket.on('close', () => {
        if (client.closed && upstream.closed) open.delete(passage);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(at.port, at.host, resolve));
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const cutAll = (how: 'close' | 'reset'): void => {
    for (const passage of [...open]) passage.end(how);
  };
  atEnd(t, async () => {
    flow.hold(false);
    cutAll('reset');
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    port,
    uri: `redis://${at.host}:${port}`,
    fault: (fault) => new Promise((resolve) => queue.push({ fault, happened: resolve })),
    clear: () => void queue.splice(0),
    cutAll,
    refuse: (refuse) => {
      refusing = refuse;
    },
    hold: (hold) => flow.hold(hold),
    slice: (pieceBytes) => {
      flow.pieceBytes = pieceBytes ?? Number.POSITIVE_INFINITY;
    },
    toServer: (other) => {
      serverPort = other;
    },
    connections: () => accepted,
  };
}

interface Queued {
  readonly fault: Fault;
  readonly happened: () => void;
}

/** How bytes pass through all connections of a proxy. */
class Flow {
  pieceBytes: number;
  #held: Promise<void> | null = null;
  #release: () => void = () => {};

  constructor(pieceBytes: number | null) {
    this.pieceBytes = pieceBytes ?? Number.POSITIVE_INFINITY;
  }

  hold(hold: boolean): void {
    if (!hold) {
      this.#held = null;
      this.#release();
    } else if (this.#held === null) {
      this.#held = new Promise((resolve) => {
        this.#release = resolve;
      });
    }
  }

  /** Resolves when nothing is held. */
  async open(): Promise<void> {
    while (this.#held !== null) await this.#held;
  }
}

/** One connection of the tool and its counterpart to the server. */
class Passage {
  readonly #sockets: Readonly<Record<Direction, Socket>>;
  readonly #queue: Queued[];
  readonly #flow: Flow;
  /** Per queued fault: how many of its texts have passed here. */
  readonly #progress = new Map<Queued, number>();
  /** The last bytes that passed, for texts that two chunks share. */
  readonly #tails: Record<Direction, string> = { 'to-server': '', 'to-client': '' };
  #armed: { readonly queued: Queued; left: number } | null = null;
  #stalled = false;
  #over = false;

  constructor(client: Socket, upstream: Socket, queue: Queued[], flow: Flow) {
    this.#sockets = { 'to-server': upstream, 'to-client': client };
    this.#queue = queue;
    this.#flow = flow;
    this.#pass(client, upstream, 'to-server');
    this.#pass(upstream, client, 'to-client');
  }

  end(how: 'close' | 'reset'): void {
    this.#over = true;
    for (const socket of Object.values(this.#sockets)) {
      if (how === 'reset') socket.resetAndDestroy();
      else socket.end(() => socket.destroy());
    }
  }

  #pass(from: Socket, to: Socket, direction: Direction): void {
    from.on('data', (chunk: Buffer) => {
      if (this.#over || this.#stalled) return;
      from.pause();
      void this.#forward(to, direction, chunk).then(() => from.resume());
    });
    const passOn = async (end: () => void): Promise<void> => {
      await this.#flow.open();
      if (!this.#stalled) end();
    };
    from.on('end', () => void passOn(() => to.end()));
    from.on('error', () => void passOn(() => this.end('reset')));
    from.on('close', () => void passOn(() => this.end('close')));
  }

  async #forward(to: Socket, direction: Direction, chunk: Buffer): Promise<void> {
    let at = 0;
    for (;;) {
      await this.#flow.open();
      if (at >= chunk.length || this.#over || this.#stalled) return;
      const { pieceBytes } = this.#flow;
      const bounds = this.#nextStop(direction, chunk, at, pieceBytes);
      const end = Math.min(bounds, at + pieceBytes, chunk.length);
      if (end > at) {
        const piece = chunk.subarray(at, end);
        // the callback comes when the kernel has it, or the socket is gone
        await new Promise<void>((resolve) => to.write(piece, () => resolve()));
        this.#tails[direction] = (this.#tails[direction] + piece.toString('latin1')).slice(-TAIL);
      }
      at = end;
      this.#passed(direction, end === bounds);
    }
  }

  /** Position in the chunk behind which something may happen: a text has passed, or the fault is due. */
  #nextStop(direction: Direction, chunk: Buffer, at: number, pieceBytes: number): number {
    const armed = this.#armed;
    if (armed !== null) {
      if (armed.queued.fault.direction !== direction) return chunk.length;
      const stop = Math.min(at + armed.left, chunk.length);
      armed.left -= Math.min(stop, at + pieceBytes) - at;
      return stop;
    }
    // byte by byte through the texts is slow; only where one of them ends it must be known exactly
    let stop = chunk.length;
    const text = this.#tails[direction] + chunk.toString('latin1', at);
    const shift = at - this.#tails[direction].length;
    for (const queued of this.#queue) {
      const wanted = queued.fault.after[this.#progress.get(queued) ?? 0];
      if (wanted === undefined || wanted.direction !== direction) continue;
      // it must end in what is still to pass
      const found = text.indexOf(wanted.text, Math.max(0, at - shift - wanted.text.length + 1));
      if (found >= 0) stop = Math.min(stop, found + wanted.text.length + shift);
    }
    return stop;
  }

  /** Something has passed: does it end a text, arm a fault, or set one off? */
  #passed(direction: Direction, atStop: boolean): void {
    const armed = this.#armed;
    if (armed !== null) {
      if (armed.queued.fault.direction === direction && armed.left <= 0) this.#happen(armed.queued);
      return;
    }
    if (!atStop) return;
    for (const queued of this.#queue) {
      const { after } = queued.fault;
      const done = this.#progress.get(queued) ?? 0;
      const wanted = after[done];
      if (wanted?.direction !== direction || !this.#tails[direction].endsWith(wanted.text)) continue;
      this.#progress.set(queued, done + 1);
      if (done + 1 < after.length) continue;
      this.#queue.splice(this.#queue.indexOf(queued), 1);
      this.#armed = { queued, left: queued.fault.bytes };
      if (queued.fault.bytes === 0) this.#happen(queued);
      return;
    }
  }

  #happen({ fault, happened }: Queued): void {
    this.#armed = null;
    if (fault.how === 'stall') this.#stalled = true;
    else if (fault.how !== 'pass') this.end(fault.how);
    happened();
  }
}

/** Longer than any text of a trigger. */
const TAIL = 200;
