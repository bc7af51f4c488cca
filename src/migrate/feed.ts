/** How a target is fed, whichever way: what the migration and the cutover ask of WriteFeed and AttachFeed. */
import type { CutoverError } from '../core/errors.ts';
import type { ReplicationPosition } from '../core/position.ts';
import type { Form } from '../rdb/forms.ts';
import type { Framing } from '../source/handshake.ts';
import type { LinkSink } from '../source/link.ts';
import type { KeptCopy } from './kept-copy.ts';
import type { StreamTail } from './stream-tail.ts';

/** What a migration wants to hear from its feed. */
export interface FeedListener {
  /** A full copy begins, at `position` where the source tells one; throws where it must not be taken. */
  copyBegins(position: ReplicationPosition | null): Promise<void>;
  /**
   * Empties the target of what an earlier copy left. Called again where the target was lost in the middle of it.
   * @returns the forms of values that the target takes; null: not asked, its release tells
   */
  prepareTarget(): Promise<ReadonlySet<Form> | null>;
  /**
   * Every entry of the snapshot is on the target; the stream follows.
   * @param lost what the target has no place for, for people, a sentence for each kind
   */
  snapshotLoaded(lost: readonly string[]): void;
  /**
   * Notes, durably, what a later process needs to load a copy from the spool; null: it is loaded. The property is null
   * where copies are not kept.
   */
  readonly keepCopy: ((copy: KeptCopy | null) => Promise<void>) | null;
  /** What is waited for, for people; null: nothing. */
  waiting(reason: string | null): void;
  note(message: string): void;
  divergence(sample: DivergenceSample): void;
  /** The feed cannot go on. */
  failed(error: CutoverError): void;
  /** A reconnect from this end: the link must ask the source again. */
  redial(): void;
  acknowledge(): void;
}

export interface DivergenceSample {
  readonly command: string;
  readonly keyDigest: string;
  readonly offset: number;
  readonly reply: string;
}

export interface Feed extends LinkSink {
  readonly snapshotBytes: number;
  /** null where the source does not say how long the snapshot is. */
  readonly snapshotTotal: number | null;
  readonly keys: number;
  readonly commands: number;
  readonly divergences: number;
  /** The history that is followed; '' where it is not known. */
  readonly replid: string;
  /** When the oldest byte that is not applied was received; null where all is applied. */
  readonly oldestPendingAt: number | null;
  /** True while the target can be given what comes. */
  readonly connected: boolean;
  /** Asks the target how far it is, where it does not tell by itself. Never throws. */
  refresh(): Promise<void>;
  /** Resolves as soon as everything up to `offset` is on the target; rejects when the feed ends before. */
  whenApplied(offset: number): Promise<void>;
  /** null where there is none, or its database is not known. */
  tail(): StreamTail | null;
  /** Once a second. */
  tick(now: number): void;
  close(): void;
}

/** What the link pours into: the feed of the moment. **e** puts another one in the place of the first. */
export class FeedSwitch implements LinkSink {
  feed: Feed;

  constructor(feed: Feed) {
    this.feed = feed;
  }

  reserve(): Buffer {
    return this.feed.reserve();
  }
  commit(length: number): void {
    this.feed.commit(length);
  }
  append(chunk: Buffer): void {
    this.feed.append(chunk);
  }
  resumePosition(): Promise<ReplicationPosition | null> {
    return this.feed.resumePosition();
  }
  fullResync(position: ReplicationPosition | null, framing: Framing): Promise<void> {
    return this.feed.fullResync(position, framing);
  }
  continued(replid: string | null): void {
    this.feed.continued(replid);
  }
  appliedOffset(): number {
    return this.feed.appliedOffset();
  }
  interrupted(error: CutoverError): void {
    this.feed.interrupted(error);
  }
}
