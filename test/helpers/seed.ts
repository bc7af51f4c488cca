/**
 * The number that random tests begin from. `npm test` takes the same one each time, so that a change is judged by what
 * it changed; who looks for more (`NAME=random`, a number that a failure printed, or a longer run) gets others.
 */
const USUAL = 20_260_521;

/**
 * @param name environment variable: a number, or `random`
 * @param longer true where many more cases run than in `npm test`: another seed each time
 */
export function seedFrom(name: string, longer = false): number {
  const given = process.env[name];
  if (given === 'random' || (given === undefined && longer)) return 1 + Math.floor(Math.random() * 2 ** 31);
  if (given === undefined) return USUAL;
  const seed = Number(given);
  if (!Number.isSafeInteger(seed) || seed <= 0) throw new Error(`${name}=${given} is no seed`);
  return seed;
}
