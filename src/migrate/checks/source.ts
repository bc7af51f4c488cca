/** Checks of the source: may we follow it, and will it let us. */
import { printable } from '../../core/text.ts';
import { expiryKindOf } from '../expiry.ts';
import { type Check, forbiddenCommands, missingCommands, ok, refuse, warn } from './context.ts';

export const sourceRole: Check = ({ sourceInfo }) => {
  const name = 'source-role';
  if (sourceInfo.role === 'master') return ok(name, 'master');
  if (sourceInfo.masterLinkUp) {
    return warn(
      name,
      'the source is a replica: it can be followed, but a fence on it does not stop writes on its master',
      'for a cutover without loss give the master as the source',
    );
  }
  return refuse(
    name,
    'the source is a replica, and its link to its master is down: its data is old',
    'wait until INFO replication says master_link_status:up, or give the master as the source',
  );
};

export const sourceLoading: Check = ({ sourceInfo }) => {
  const name = 'source-loading';
  if (!sourceInfo.loading) return ok(name, 'the source has its data in memory');
  const percent = sourceInfo.text('loading_loaded_perc');
  return warn(
    name,
    `the source is still loading its data${percent === null ? '' : ` (${printable(percent)} %)`}: the copy begins when it is done`,
    'wait until INFO persistence says loading:0',
  );
};

/** The right to PSYNC; where services hide it, what is possible instead. protocol.md 1.10, 5.3. */
export const psync: Check = async ({ source, sourceInfo, options }) => {
  const name = 'source-no-psync';
  const { psync: psyncName, sync: syncName, replconf: replconfName } = options.commandNames;
  const managed =
    'ask the provider to enable it or for its other name (--psync-command), or copy from a self-managed replica of it';
  if (sourceInfo.family === 'dragonfly' || sourceInfo.family === 'other') {
    return refuse(name, `this kind of server (${sourceInfo.family}) feeds no replica of Redis`, managed);
  }
  const missing = await missingCommands(source, [psyncName, syncName, replconfName]);
  if (missing?.includes(psyncName) === true && missing.includes(syncName)) {
    return refuse(name, `the source has neither ${printable(psyncName)} nor ${printable(syncName)}`, managed);
  }
  const forbidden = sourceInfo.atLeast(6, 0)
    ? await forbiddenCommands(source, [[psyncName, '?', '-1'], [syncName], [replconfName, 'ack', '0']])
    : [];
  const useless = new Set([...(missing ?? []), ...(forbidden ?? [])]);
  if (useless.has(replconfName) || (useless.has(psyncName) && useless.has(syncName))) {
    return refuse(
      name,
      `our user on the source may not run ${[...useless].map((command) => printable(command)).join(', ')}`,
      'ACL SETUSER <user> +psync +sync +replconf +ping',
    );
  }
  if (useless.has(psyncName)) {
    return warn(name, 'SYNC only: each break of the link costs a new full copy', 'ACL SETUSER <user> +psync');
  }
  if (missing === null || forbidden === null) {
    return warn(
      name,
      'not checked: the source does not say whether PSYNC is allowed; the handshake will show it',
      `let our user ask: ACL SETUSER <user> +command +acl; if PSYNC is not there at all, ${managed}`,
    );
  }
  return ok(name, 'PSYNC is allowed');
};

export const sourceFenceCheck: Check = ({ sourceFence, sourceInfo, options }) => {
  const name = 'source-fence';
  if (!options.sourceFence) {
    return warn(
      name,
      'none (--no-source-fence): the last writes on the source can be lost',
      'stop the writers before the cutover',
    );
  }
  switch (sourceFence.kind) {
    case 'acl':
      return sourceInfo.role === 'replica'
        ? warn(
            name,
            'by ACL, on this replica only: its master goes on taking writes',
            'give the master as the source',
          )
        : ok(name, 'by ACL: users lose write commands only');
    case 'min-replicas':
      return warn(
        name,
        `by min-slaves-to-write: ${sourceFence.caveat}`,
        'stop writers that use scripts before the cutover',
      );
    case 'none':
      return warn(
        name,
        `none: ${sourceFence.reason}; the last writes on the source can be lost`,
        'stop the writers before the cutover, or let our user run it: ACL SETUSER <user> +acl +multi +exec',
      );
  }
};

/** Keys with less than this to live on average may run out while the copy is taken. */
const SHORT_TTL_MS = 10 * 60_000;

/** How keys are kept from dying on the target of a TTL that the source renews meanwhile: see ../expiry.ts. */
export const expiry: Check = ({ sourceInfo, targetInfo, feed }) => {
  const name = 'expiry';
  if (feed === 'attach')
    return ok(name, 'a replica expires nothing by itself: the source does it for the target');
  switch (expiryKindOf(targetInfo)) {
    case 'import':
      return ok(name, 'the target expires nothing by itself in import mode');
    case 'held':
      return ok(name, 'expiry times are held back until the target is opened');
    case 'own-clock':
      break;
  }
  const short = sourceInfo.keyspace.filter(
    ({ averageTtlMs }) => averageTtlMs !== null && averageTtlMs < SHORT_TTL_MS,
  );
  if (short.length === 0) return ok(name, 'no database with short times to live on average');
  const databases = short.map(({ db }) => db).join(', ');
  return warn(
    name,
    `keys of database ${databases} live for minutes only: one that runs out on the target before its renewal has come there is lost`,
    'sync at a quiet time, and let the applications write short-lived keys anew behind the cutover',
  );
};
