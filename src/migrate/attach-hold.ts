/**
 * Our hold on a target that is fed by `attach`: it is made a replica of ours, with the settings that this takes. What
 * is changed stands in the run folder before it is done, with the values of before, so that it is put back after a
 * crash, too. No secret is among them: where the target has a `masterauth` of its own, that is the password of our
 * port, and it stays as it is.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Secret } from '../core/endpoint.ts';
import { PreflightError, TargetError, toCutoverError } from '../core/errors.ts';
import { printable } from '../core/text.ts';
import type { ReplicaCredentials } from '../target/attach/replica-dialogue.ts';
import type { StopPlace } from './attach-feed.ts';
import { changeMark } from './change-mark.ts';
import type { OwnHistory } from './leftovers.ts';
import type { CheckedPair } from './pair-context.ts';
import { makeMaster, type ReplicationState, replicaOf, replicationState } from './roles.ts';
import { readSettings, type Setting, writeSettings } from './settings.ts';

const LOADING_LIMIT_MS = 30_000;
const USUAL_TIMEOUT_S = 60;
/** As often as a master sends PING by default. */
const LONGEST_SILENCE_MS = 10_000;

export interface HoldRequest extends CheckedPair {
  /** Settings that an earlier process of this run has changed, with the values of before. */
  readonly former: readonly Setting[];
}

/** Where the target is told to find us. */
export interface AttachAddress {
  readonly host: string;
  readonly port: number;
}

export class AttachHold {
  readonly #request: HoldRequest;
  /** What is set for the run, and what is put back. */
  readonly #wanted: readonly Setting[];
  readonly #former: readonly Setting[];
  /** With what the target comes to us. */
  readonly credentials: ReplicaCredentials;
  /** True where the target speaks TLS to its master. */
  readonly tls: boolean;
  /** So often it must hear something, or it takes its master for dead. */
  readonly signOfLifeMs: number;
  #address: AttachAddress | null = null;
  #released = false;
  #regaining: Promise<void> = Promise.resolve();

  private constructor(
    request: HoldRequest,
    credentials: ReplicaCredentials,
    tls: boolean,
    signOfLifeMs: number,
    settings: { wanted: readonly Setting[]; former: readonly Setting[] },
  ) {
    this.#request = request;
    this.credentials = credentials;
    this.tls = tls;
    this.signOfLifeMs = signOfLifeMs;
    this.#wanted = settings.wanted;
    this.#former = settings.former;
  }

  /** Reads the target's settings and works out what is to change; nothing is changed yet. */
  static async prepare(request: HoldRequest): Promise<AttachHold> {
    const { facts, target } = request;
    const since5 = facts.target.atLeast(5, 0);
    const former = new Map(request.former.map(({ name, value }) => [name, value]));
    const readOnly = since5 ? 'replica-read-only' : 'slave-read-only';
    const present = await readSettings(target, [
      readOnly,
      'repl-diskless-load',
      'masterauth',
      'masteruser',
      'tls-replication',
      'repl-timeout',
    ]);
    const wanted: Setting[] = [];
    const want = (name: string, value: string): void => {
      const before = former.get(name) ?? present.get(name);
      // a release that does not have it does without
      if (before === undefined || before === value) return;
      former.set(name, before);
      wanted.push({ name, value });
    };
    want(readOnly, 'yes');
    // the target loads while the source sends
    want('repl-diskless-load', 'on-empty-db');
    const ownPassword = former.has('masterauth') ? '' : (present.get('masterauth') ?? '');
    const username = present.get('masteruser') ?? '';
    const password = new Secret(ownPassword === '' ? randomBytes(24).toString('base64url') : ownPassword);
    if (ownPassword === '') {
      former.set('masterauth', '');
      wanted.push({ name: 'masterauth', value: password.reveal() });
    }
    return new AttachHold(
      request,
      { username: username === '' ? null : username, password },
      present.get('tls-replication') === 'yes',
      signOfLifeFor(present.get('repl-timeout') ?? null),
      { wanted, former: [...former].map(([name, value]) => ({ name, value })) },
    );
  }

  /** Sets what the run needs and makes the target follow us. */
  async take(address: AttachAddress): Promise<void> {
    const { journal } = this.#request;
    this.#address = address;
    // on the disk with the line behind it
    await journal('attach-at', address, 'buffered');
    await journal('attach', this.#former);
    await this.follow();
  }

  /** Makes the target follow us: at the beginning, after it forgot (a restart), and to undo promote(). */
  async follow(): Promise<void> {
    const { target, facts } = this.#request;
    if (this.#address === null) throw new TargetError('the target was not taken', NOT_TAKEN);
    await writeSettings(target, this.#wanted);
    const [command, ...args] = replicaOf(facts.target, this.#address.host, this.#address.port);
    await target.call(command, ...args);
  }

  /** Undoes a promotion: the target, a master with a history of its own since, follows us again. */
  async followAgain(own: OwnHistory): Promise<void> {
    await this.#request.journal('attach-own-history', own);
    await this.follow();
  }

  /** Deletes what a target that reaches us holds: it loads at once only where it is empty. */
  async empty(): Promise<void> {
    const { target, facts } = this.#request;
    await makeMaster(target, facts.target);
    await target.call('FLUSHALL', 'ASYNC');
    await this.follow();
  }

  /** @throws CutoverError where it cannot be asked */
  state(): Promise<ReplicationState> {
    return replicationState(this.#request.target);
  }

  /**
   * Makes a target that has forgotten us follow us again; false where it has not.
   * @throws PreflightError `target-lease` where somebody else has made it a replica of another server
   */
  async regain(): Promise<boolean> {
    if (this.#released) return false;
    const { role, master } = await this.state();
    if (this.#released) return false;
    if (role === 'master') {
      this.#regaining = this.follow();
      await this.#regaining;
      return true;
    }
    if (isSameAddress(master, this.#address)) return false;
    throw takenBySomebodyElse(this.#request.target.where, master);
  }

  /**
   * Gives the target back: a master by itself, its settings as they were. May be called again.
   * @param followed the source's history; '': none was followed yet
   * @param place where it was stopped in the stream before; null: it was not, and nobody knows where it is
   */
  async release(followed: string, place: StopPlace | null = null): Promise<void> {
    if (this.#released || this.#address === null) return;
    this.#released = true;
    const { target, facts, journal } = this.#request;
    // its REPLICAOF must not come behind ours
    await this.#regaining.catch(() => undefined);
    const state = await this.state();
    if (state.role === 'replica' && isSameAddress(state.master, this.#address)) {
      await this.#noteUseless(state, followed);
      await onceLoaded(() => makeMaster(target, facts.target));
    }
    await writeSettings(target, this.#former);
    await journal('attach-released', place);
  }

  /**
   * A target that has lost its place (a restart), and that has not got another copy yet: resume may take one if nobody
   * has written to it meanwhile. Noted while it is a replica, which nobody writes to.
   */
  async #noteUseless({ replid }: ReplicationState, of: string): Promise<void> {
    const { target, journal } = this.#request;
    const mark = of === '' || replid === of ? null : await changeMark(target);
    if (mark !== null) await journal('attach-useless', { of, replid, mark });
  }
}

/** @param replTimeout seconds, as CONFIG GET says it; null: it does not */
function signOfLifeFor(replTimeout: string | null): number {
  const seconds = Number(replTimeout ?? USUAL_TIMEOUT_S) || USUAL_TIMEOUT_S;
  return Math.min(LONGEST_SILENCE_MS, (seconds * 1000) / 4);
}

export function isSameAddress(one: AttachAddress | null, other: AttachAddress | null): boolean {
  return one !== null && one.host === other?.host && one.port === other.port;
}

/** PreflightError `target-lease`: the target follows another server, and what it holds is not ours to wipe. */
export function takenBySomebodyElse(where: string, master: AttachAddress | null): PreflightError {
  return new PreflightError(
    `the ${where} was made a replica of ${printable(master?.host ?? '?')}:${master?.port ?? '?'} by somebody else`,
    { code: 'target-lease', hint: 'find out who works on this target, end one of the two, and resume' },
  );
}

/** A target that has all of a copy goes on loading it when we are gone, and refuses to become a master meanwhile. */
async function onceLoaded(work: () => Promise<unknown>): Promise<void> {
  const until = Date.now() + LOADING_LIMIT_MS;
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (toCutoverError(error).code !== 'reply-loading' || Date.now() > until) throw error;
      await delay(50);
    }
  }
}

const NOT_TAKEN = { code: 'not-taken', hint: 'this is a bug: please report it' };
