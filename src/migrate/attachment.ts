/**
 * An attached target, put together: the port on which it finds us, the feed behind it, and our hold on its settings.
 * attach() leaves nothing behind where it fails.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ReplyError } from '../client/reply-error.ts';
import type { ServerSession } from '../client/session.ts';
import { addressOf } from '../core/endpoint.ts';
import { type CutoverError, PreflightError, toCutoverError } from '../core/errors.ts';
import type { ListenOptions } from '../core/options.ts';
import type { ReplicationPosition } from '../core/position.ts';
import { printable } from '../core/text.ts';
import type { Spool } from '../spool/spool.ts';
import { ReplicaServer } from '../target/attach/replica-server.ts';
import { type AttachBeginning, AttachFeed, type AttachListener, type StopPlace } from './attach-feed.ts';
import { AttachHold, type HoldRequest } from './attach-hold.ts';
import type { CompleteCopy } from './kept-copy.ts';
import type { Valve } from './valve.ts';

/** Replicas try each second; a firewall that drops packets shows by silence. */
const REACH_LIMIT_MS = 10_000;
const REGAIN_EVERY_MS = 1000;
const LEAVE_LIMIT_MS = 5_000;

export interface AttachRequest extends HoldRequest {
  readonly spool: Spool;
  readonly listener: AttachListener;
  readonly signal: AbortSignal;
  /** What the target has already; `ownReplid`: under a history of its own. null: a copy is due. */
  readonly has: {
    readonly from: ReplicationPosition;
    /** Selected in the stream there; -1: not known. */
    readonly db: number;
    readonly ownReplid: string | null;
  } | null;
  /** A copy that lies in the spool, and that the target may have come to the end of; null: none. */
  readonly kept: CompleteCopy | null;
  /** True where the target's keys go first: a copy loads at once only into an empty server. */
  readonly flush: boolean;
  readonly valve: Valve;
  /** A target in the stream that acknowledges nothing for this long is cut off, and dials again. */
  readonly silenceMs: number;
}

export interface Attachment {
  readonly hold: AttachHold;
  readonly feed: AttachFeed;
}

/**
 * Makes the target our replica, and waits until it has come to us.
 * @throws PreflightError `target-unreachable`; UsageError `listen`; ReplyError for what the target refuses
 */
export async function attach(request: AttachRequest): Promise<Attachment> {
  const { pair, target, options, spool, listener, signal, has } = request;
  const { listen } = options;
  const hold = await AttachHold.prepare(request);
  const feed = new AttachFeed(spool, hold, beginning(request), listener, request.valve, signal);
  if (has !== null && has.ownReplid !== null) {
    const { replid: of, offset } = has.from;
    // it may be given back again before it has followed
    await request.journal('attach-own-history', { replid: has.ownReplid, of, offset });
    feed.takeForOurs(has.ownReplid, offset);
  }
  const host = listen.host ?? target.localAddress ?? '0.0.0.0';
  const { tls } = pair.target;
  const server = await ReplicaServer.listen(
    {
      host,
      port: listen.port,
      ...hold.credentials,
      tls:
        hold.tls && tls !== null && tls.cert !== null && tls.key !== null
          ? { cert: tls.cert, key: tls.key, ca: tls.ca }
          : null,
      bytes: spool,
      pace: feed.pace,
      signOfLifeMs: hold.signOfLifeMs,
      silenceMs: request.silenceMs,
    },
    feed,
  );
  feed.serveBy(server);
  try {
    const reached = feed.whenReached(REACH_LIMIT_MS);
    const address = { host: advertised(listen, target), port: server.port };
    await hold.take(address);
    // a target that restarts meanwhile has forgotten us
    const again = setInterval(() => void hold.regain().catch(() => undefined), REGAIN_EVERY_MS);
    void reached.finally(() => clearInterval(again));
    if (await reached) {
      if (request.flush) await hold.empty();
      return { hold, feed };
    }
    throw new PreflightError(
      `the ${target.where} does not reach us at ${printable(addressOf(address))} within ${REACH_LIMIT_MS / 1000} s`,
      {
        code: 'target-unreachable',
        hint: 'give an address that the target can dial: --listen HOST:PORT, --advertise HOST; or --feed write',
      },
    );
  } catch (error) {
    feed.close();
    await hold.release(feed.replid).catch((failure: unknown) => {
      const why = printable(toCutoverError(failure).message);
      listener.note(`the target could not be given back whole (${why}); redis-cutover resume puts it right`);
    });
    throw error;
  }
}

/** Whether feed `write` may do where attach() failed like this. */
export function isNoWayToAttach(error: CutoverError): boolean {
  return error instanceof ReplyError || error.code === 'target-unreachable' || error.code === 'listen';
}

/** Brings a target that is left to a place from which resume can go on; null: it did not come to one. */
export async function stopInZero({ feed }: Attachment): Promise<StopPlace | null> {
  if (!feed.streaming) return null;
  const signal = AbortSignal.timeout(LEAVE_LIMIT_MS);
  const stop = async (): Promise<StopPlace> => {
    const place = await feed.stopInZero(signal);
    await feed.whenApplied(place.offset);
    return place;
  };
  return Promise.race([stop(), delay(LEAVE_LIMIT_MS, null, { ref: false })]).catch(() => null);
}

function beginning({ kept, has }: AttachRequest): AttachBeginning {
  if (kept !== null) return { kind: 'kept', copy: kept };
  return has === null ? { kind: 'copy' } : { kind: 'back', at: has.from, db: has.db };
}

/** What the target is told to dial. */
function advertised(listen: ListenOptions, target: ServerSession): string {
  const everywhere = listen.host === null || ['0.0.0.0', '::', '*'].includes(listen.host);
  return listen.advertise ?? (everywhere ? null : listen.host) ?? target.localAddress ?? '127.0.0.1';
}
