/**
 * What the person at the keyboard has made of the table: its order, where it is scrolled to, which pair is chosen, and
 * whether that one's details are shown. Pure; live.ts keeps one of these and operator.ts says which key was pressed.
 */
import { assertNever } from '../core/errors.ts';
import type { PairSnapshot } from '../core/events.ts';
import type { Phase } from '../core/phase.ts';
import { printable } from '../core/text.ts';

const SORTS = ['as listed', 'state', 'lag', 'progress'] as const;
type Sort = (typeof SORTS)[number];

/** A key that changes the view alone, and never a pair. */
export type ViewKey = 'up' | 'down' | 'page-up' | 'page-down' | 'home' | 'end' | 'details' | 'leave' | 'sort';

export interface TableView {
  readonly sort: Sort;
  /** Name of the pair that the keys act on; null: all. */
  readonly chosen: string | null;
  /** Index of the first row that is shown, in the order of `sort`. */
  readonly top: number;
  /** The details of the chosen pair in place of the table. */
  readonly detail: boolean;
}

export const FIRST_VIEW: TableView = { sort: 'as listed', chosen: null, top: 0, detail: false };

/** What needs a person stands first. */
const STATE_ORDER: Record<Phase, number> = {
  failed: 0,
  stopped: 1,
  'rolled-back': 2,
  checking: 3,
  snapshot: 4,
  'catching-up': 5,
  'in-sync': 6,
  writable: 7,
  promoted: 8,
};

/** In the order of the view: the worst first, and as listed where two are the same. */
export function sorted(pairs: readonly PairSnapshot[], sort: Sort): readonly PairSnapshot[] {
  switch (sort) {
    case 'as listed':
      return pairs;
    case 'state':
      return [...pairs].sort((a, b) => STATE_ORDER[a.phase] - STATE_ORDER[b.phase]);
    case 'lag':
      return [...pairs].sort((a, b) => b.lagBytes - a.lagBytes);
    case 'progress':
      return [...pairs].sort((a, b) => shareLoaded(a) - shareLoaded(b));
    default:
      return assertNever(sort);
  }
}

/** How much of a pair's data set is on its target: 0 to 1, by bytes, or by keys where the bytes are unknown. */
export function shareLoaded(pair: PairSnapshot): number {
  switch (pair.phase) {
    case 'checking':
      return 0;
    case 'catching-up':
    case 'in-sync':
    case 'writable':
    case 'promoted':
      return 1;
    case 'snapshot':
    case 'failed':
    case 'stopped':
    case 'rolled-back': {
      const [part, total] =
        pair.snapshotTotal === null ? [pair.keys, pair.keysTotal] : [pair.snapshotBytes, pair.snapshotTotal];
      return total === null || !(total > 0) ? 0 : Math.min(1, part / total);
    }
    default:
      return assertNever(pair.phase);
  }
}

/**
 * The view after a key. Arrows choose a pair; the other keys that move do so with the chosen one, or scroll where there
 * is none.
 *
 * @param names of the pairs, in the order of the view
 * @param page so many rows fit on the screen
 */
export function viewAfter(view: TableView, key: ViewKey, names: readonly string[], page: number): TableView {
  switch (key) {
    case 'sort':
      return { ...view, sort: SORTS[(SORTS.indexOf(view.sort) + 1) % SORTS.length] ?? 'as listed', top: 0 };
    case 'leave':
      return view.detail ? { ...view, detail: false } : { ...view, chosen: null };
    case 'details': {
      // where there is but one, it need not be chosen first
      const chosen = view.chosen ?? (names.length === 1 ? (names[0] ?? null) : null);
      return { ...view, chosen, detail: chosen !== null && !view.detail };
    }
    case 'up':
    case 'down':
    case 'page-up':
    case 'page-down':
    case 'home':
    case 'end':
      return moved(view, key, names, page);
    default:
      return assertNever(key);
  }
}

function moved(
  view: TableView,
  key: Exclude<ViewKey, 'sort' | 'leave' | 'details'>,
  names: readonly string[],
  page: number,
): TableView {
  const top = topOf(view, names, page);
  const steps = {
    up: -1,
    down: 1,
    'page-up': -page,
    'page-down': page,
    home: -names.length,
    end: names.length,
  };
  const at = view.chosen === null ? -1 : names.indexOf(view.chosen);
  const arrow = key === 'up' || key === 'down';
  if (at < 0 && !arrow) return { ...view, top: topOf({ chosen: null, top: top + steps[key] }, names, page) };
  const index = at < 0 ? top : Math.max(0, Math.min(names.length - 1, at + steps[key]));
  const chosen = names[index] ?? null;
  return { ...view, chosen, top: topOf({ chosen, top }, names, page) };
}

/** Where the rows begin: `view.top`, as far as there are rows, and so that the chosen one can be seen. */
export function topOf(
  view: Pick<TableView, 'chosen' | 'top'>,
  names: readonly string[],
  page: number,
): number {
  const top = Math.max(0, Math.min(view.top, names.length - page));
  const at = view.chosen === null ? -1 : names.indexOf(view.chosen);
  if (at < 0) return top;
  return Math.min(at, Math.max(top, at - page + 1));
}

/** Keys that act on more than the pair that is chosen: on a wave, or on the session. */
const BEYOND_THE_CHOSEN = /^\[[wuq?]\]/;

/** The footer with the keys of the view, and for whom the keys act; an empty one stays so, for nobody is asked. */
export function footerFor(footer: string, view: TableView, pairs: number): string {
  if (footer === '' || (pairs < 2 && !view.detail)) return footer;
  const sort = pairs < 2 || view.detail ? [] : [`[o] order: ${view.sort}`];
  if (view.chosen === null) return [footer, '[arrows] choose', ...sort, 'on all pairs'].join('  ');
  const details = view.detail ? '[Esc] leave' : '[Enter] details  [Esc] all pairs';
  if (pairs < 2) return [footer, details].join('  ');
  const items = footer.split('  ');
  const own = items.filter((item) => !BEYOND_THE_CHOSEN.test(item));
  const beyond = items.filter((item) => BEYOND_THE_CHOSEN.test(item));
  if (beyond[0] !== undefined) beyond[0] = `on all: ${beyond[0]}`;
  return [`on ${printable(view.chosen, 40)} alone:`, ...own, details, ...sort, ...beyond].join('  ');
}
