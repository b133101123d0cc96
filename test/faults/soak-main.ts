/**
 * `npm run soak`: an hour, or as long as one likes; what it held in Markdown.
 *
 * In      options: see HELP
 * Out     a table; exit code 1 when something grew, an answer was wrong, or the planted leak was not seen
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { grownIn, type Held, PLANTED_MEGABYTES, soak } from './soak.js';

const HELP = `Usage: npm run soak -- [options]

  --minutes N        how long (default 60)
  --fault-every S    seconds between two faults (default 60)`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    'fault-every': { type: 'string', default: '60' },
    help: { type: 'boolean', default: false },
  },
});

const row = (name: string, { files, processes, residentMb, sockets, temporary }: Held): string =>
  `| ${name} | ${residentMb.toFixed(1)} | ${sockets} | ${files} | ${processes} | ${temporary} |`;

if (values.help) console.log(HELP);
else {
  const minutes = Number(values.minutes);
  const result = await soak({
    minutes,
    faultEverySeconds: Number(values['fault-every']),
    onProgress: (sentence) => console.error(sentence),
  });
  const grown = grownIn(result);
  const isSeen = grownIn({ early: result.late, late: result.leaking }).length > 0;
  console.log(`${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, ${minutes} minutes
${result.requests} requests, ${result.wrong} wrong, ${result.models} models that came and went, ${result.faults} faults

| | resident MB | sockets | files | processes | temporary files |
| --- | --- | --- | --- | --- | --- |
${row('early third', result.early)}
${row('late third', result.late)}
${row(`${PLANTED_MEGABYTES} MB leaked on purpose`, result.leaking)}
`);
  for (const sentence of [...grown, ...result.problems]) console.log(sentence);
  if (!isSeen) console.log('the planted leak was not seen');
  process.exitCode = grown.length === 0 && isSeen && result.wrong === 0 ? 0 : 1;
}
