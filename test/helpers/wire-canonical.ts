/** What a server says over the wire, in the form of rdb-canonical.ts: for comparison with what its RDB says. */
import assert from 'node:assert/strict';
import type { Reply, RespConnection } from '../../src/resp/connection.ts';
import {
  byFirst,
  type CanonicalGroup,
  type CanonicalStream,
  type CanonicalValue,
  scoreText,
} from './rdb-canonical.ts';
import type { Release } from './releases.ts';

export interface WireKey {
  readonly db: number;
  readonly key: string;
  /** Absolute, ms, within these two; null: none. */
  readonly expires: readonly [from: number, to: number] | null;
  readonly value: CanonicalValue;
}

/** All keys of a server at rest, 6.0 or later where it has streams; by database, then by name. */
export async function keysOnWire(client: RespConnection, release: Release): Promise<WireKey[]> {
  const keyspace = String(await client.call('INFO', 'keyspace'));
  const found: WireKey[] = [];
  for (const [, db] of keyspace.matchAll(/^db(\d+):/gm)) {
    await client.call('SELECT', db!);
    const names = ((await client.call('KEYS', '*')) as Buffer[]).sort(Buffer.compare);
    const asked = Date.now();
    const heads = await client.pipeline(
      names.flatMap((name) => [
        ['TYPE', name],
        ['PTTL', name],
      ]),
    );
    const answered = Date.now();
    const types = names.map((_, i) => String(heads[2 * i]));
    const values = await client.pipeline(names.map((name, i) => readCommand(types[i]!, name)));
    for (const [i, name] of names.entries()) {
      const left = Number(heads[2 * i + 1]);
      const value = valueIn(types[i]!, values[i]!);
      found.push({
        db: Number(db),
        key: name.toString('latin1'),
        expires: left < 0 ? null : [asked + left - 1, answered + left + 1],
        value: value.kind === 'hash' ? await withExpiry(client, release, name, value) : value,
      });
    }
  }
  return found;
}

/** The value of one key, of the selected database. */
export async function valueOnWire(
  client: RespConnection,
  release: Release,
  name: string,
): Promise<CanonicalValue> {
  const type = String(await client.call('TYPE', name));
  const value = valueIn(type, await client.call(...readCommand(type, Buffer.from(name))));
  return value.kind === 'hash' ? withExpiry(client, release, Buffer.from(name), value) : value;
}

/** The source code of all function libraries; none before 7.0. */
export async function librariesOnWire(client: RespConnection, release: Release): Promise<string[]> {
  if (release.major < 7) return [];
  const libraries = (await client.call('FUNCTION', 'LIST', 'WITHCODE')) as Reply[];
  return libraries.map((library) => text(mapOf(library).get('library_code'))).sort();
}

function readCommand(type: string, name: Buffer): [string, ...(string | number | Buffer)[]] {
  switch (type) {
    case 'string':
      return ['GET', name];
    case 'list':
      return ['LRANGE', name, 0, -1];
    case 'set':
      return ['SMEMBERS', name];
    case 'zset':
      return ['ZRANGE', name, 0, -1, 'WITHSCORES'];
    case 'hash':
      return ['HGETALL', name];
    case 'stream':
      return ['XINFO', 'STREAM', name, 'FULL', 'COUNT', 0];
    default:
      return ['DUMP', name];
  }
}

function valueIn(type: string, reply: Reply): CanonicalValue {
  switch (type) {
    case 'string':
      return { kind: 'string', text: text(reply) };
    case 'list':
      return { kind: 'list', elements: texts(reply) };
    case 'set':
      return { kind: 'set', elements: texts(reply).sort() };
    case 'zset':
      return {
        kind: 'zset',
        members: pairsOf(reply).map(([member, score]) => [member, scoreText(scoreOf(score))]),
      };
    case 'hash':
      return { kind: 'hash', fields: pairsOf(reply).map(([field, content]) => [field, content, 0]) };
    case 'stream':
      return { kind: 'stream', ...streamOf(reply) };
    default:
      assert.ok(Buffer.isBuffer(reply), `${type}: ${String(reply)}`);
      // without its type and its footer
      return { kind: 'module', name: type, raw: reply.toString('latin1', 1, reply.length - 10) };
  }
}

async function withExpiry(
  client: RespConnection,
  { kind, major, minor }: Release,
  name: Buffer,
  hash: CanonicalValue & { kind: 'hash' },
): Promise<CanonicalValue> {
  const since = kind === 'valkey' ? 9 : 7.4;
  if (major + minor / 10 < since || hash.fields.length === 0) return hash;
  const fields = hash.fields.map(([field]) => Buffer.from(field, 'latin1'));
  const reply = await client.call('HPEXPIRETIME', name, 'FIELDS', fields.length, ...fields);
  const expiries = (reply as number[]).map((atMs) => Math.max(0, atMs));
  return {
    kind: 'hash',
    fields: hash.fields.map(([field, content], i) => [field, content, expiries[i] ?? 0]),
  };
}

function streamOf(reply: Reply): CanonicalStream {
  const stream = mapOf(reply);
  const added = stream.get('entries-added');
  return {
    length: Number(stream.get('length')),
    lastId: text(stream.get('last-generated-id')),
    counters:
      added === undefined
        ? null
        : {
            first: text(stream.get('recorded-first-entry-id')),
            maxDeleted: text(stream.get('max-deleted-entry-id')),
            added: BigInt(text(added)),
          },
    entries: (stream.get('entries') as [Reply, Reply][]).map(([id, fields]) => [text(id), ...texts(fields)]),
    groups: ((stream.get('groups') ?? []) as Reply[])
      .map(groupOf)
      .sort((a, b) => byFirst([a.name], [b.name])),
    producers: null,
  };
}

function groupOf(reply: Reply): CanonicalGroup {
  const group = mapOf(reply);
  const consumers = (group.get('consumers') as Reply[]).map(mapOf);
  const read = group.get('entries-read');
  return {
    name: text(group.get('name')),
    lastId: text(group.get('last-delivered-id')),
    // no number: the server does not know
    read: group.has('entries-read') ? BigInt(read === null ? -1 : text(read)) : null,
    pending: pendingOf(group)
      .map(([id, consumer, atMs, count]) => [text(id), text(consumer), Number(atMs), Number(count)] as const)
      .sort(byFirst),
    consumers: consumers
      .map((consumer) => {
        const active = consumer.get('active-time');
        return [
          text(consumer.get('name')),
          Number(consumer.get('seen-time')),
          active === undefined ? null : Number(active),
        ] as const;
      })
      .sort(byFirst),
  };
}

function pendingOf(group: Map<string, Reply>): Reply[][] {
  return (group.get('pending') ?? group.get('pel')) as Reply[][];
}

function scoreOf(score: string): number {
  if (score === 'inf') return Infinity;
  return score === '-inf' ? -Infinity : Number(score);
}

function text(reply: Reply | undefined): string {
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : String(reply);
}

function texts(reply: Reply): string[] {
  return (reply as Reply[]).map(text);
}

function pairsOf(reply: Reply): [string, string][] {
  const all = texts(reply);
  const pairs: [string, string][] = [];
  for (let i = 0; i < all.length; i += 2) pairs.push([all[i]!, all[i + 1]!]);
  return pairs.sort(byFirst);
}

/** `[name, value, name, value, …]` */
function mapOf(reply: Reply): Map<string, Reply> {
  const items = reply as Reply[];
  const map = new Map<string, Reply>();
  for (let i = 0; i + 1 < items.length; i += 2) map.set(text(items[i]), items[i + 1] ?? null);
  return map;
}
