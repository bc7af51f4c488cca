/** `npm run man`: writes the manual page, man/redis-cutover.1. Run by tsx: it imports the sources. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { COMMANDS } from '../src/cli/main.ts';
import { manPage } from '../src/cli/man.ts';
import { ownVersion } from '../src/cli/version.ts';

mkdirSync(new URL('../man', import.meta.url), { recursive: true });
writeFileSync(new URL('../man/redis-cutover.1', import.meta.url), manPage(COMMANDS, ownVersion()));
