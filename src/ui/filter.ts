/** Renderers in front of renderers: what people see of a run where it should be other than what machines read. */
import type { MigrationEvent } from '../core/events.ts';
import type { Renderer } from '../core/ports.ts';

/** `inner`, but each event goes to `event`, which passes on what it likes. */
export function filtered(inner: Renderer, event: (event: MigrationEvent) => void): Renderer {
  return {
    event,
    frame: (pairs, footer) => inner.frame(pairs, footer),
    say: (text) => inner.say(text),
    step: (text) => inner.step(text),
    close: () => inner.close(),
  };
}

/** For people: the error of a pair that a check refused only repeats that check, so it is left out. */
export function withoutRepeats(inner: Renderer): Renderer {
  const refused = new Set<string>();
  return filtered(inner, (event) => {
    if (event.event === 'check' && event.status === 'refuse') refused.add(`${event.pair} ${event.name}`);
    if (event.event === 'error' && refused.has(`${event.pair} ${event.code}`)) return;
    inner.event(event);
  });
}
