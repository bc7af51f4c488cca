/** The audit of a run: what the person at the keyboard asked for and answered, as events for report and log. */
import type { MigrationEvent } from '../core/events.ts';
import type { Operator, OperatorCommand } from '../core/ports.ts';

type Action = Extract<MigrationEvent, { event: 'action' }>;

/** `inner`, and an `action` event for each key that acts and each question that is answered. */
export function audited(inner: Operator, emit: (action: Action) => void): Operator {
  let latest: OperatorCommand | null = null;
  const tell = (action: string, result: Action['result'], detail?: string): void => {
    const pair = inner.selected();
    emit({
      event: 'action',
      ...(pair === null ? {} : { pair }),
      by: 'keyboard',
      action,
      result,
      ...(detail === undefined ? {} : { detail }),
    });
  };
  return {
    selected: () => inner.selected(),
    async next(allowed) {
      const command = await inner.next(allowed);
      if (command === 'chosen') return command;
      latest = command;
      tell(command, 'asked');
      return command;
    },
    async confirmByTyping(question, expected) {
      const confirmed = await inner.confirmByTyping(question, expected);
      const [first = ''] = question.split('\n');
      tell(latest ?? 'question', confirmed ? 'confirmed' : 'declined', first);
      return confirmed;
    },
    async ask(question) {
      const answer = await inner.ask(question);
      tell(latest ?? 'question', answer === null ? 'declined' : 'confirmed', answer ?? undefined);
      return answer;
    },
    close: () => inner.close(),
  };
}
