#!/usr/bin/env node
/**
 * The command line: checks the platform, installs and builds what is missing, then runs the compiled program in this process.
 *
 * In      a command of PROGRAMS, or `serve | build | help | version`, and that program's own arguments
 * Out     what the program prints; its exit code; 1 when the machine, the packages or the sources do not allow a start
 * Limits  plain JavaScript on Node alone (bootstrap.mjs); the checks cost well under 150 ms when there is nothing to do
 * Errors  a program throws: one line on standard error and exit code 1 (an unknown command: 2)
 *
 * Signals reach the program directly, since there is no process in between.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { build, prepare, ROOT } from './bootstrap.mjs';

/** Command → its compiled module: an exported `main(argv)`, which may resolve to an exit code, or a program that runs on import. */
const PROGRAMS = {
  start: 'dist/server/main.js',
  torchserve: 'dist/server/torchserve-command.js',
  key: 'dist/server/access/new-key.js',
  doctor: 'dist/server/doctor.js',
  archive: 'dist/server/archive-main.js',
  pipeline: 'dist/pipeline/main.js',
  cache: 'dist/server/cache-command.js',
  gpu: 'dist/server/gpu/gpu-command.js',
  partition: 'dist/partitioner/main.js',
  bench: 'dist/bench/main.js',
  'bench:peers': 'dist/bench/peers/main.js',
  'bench:http': 'dist/bench/http/main.js',
  'bench:serving': 'dist/bench/serving/main.js',
  'bench:prefix': 'dist/bench/prefix-cache.js',
  'bench:constrained': 'dist/bench/constrained.js',
  'bench:perplexity': 'dist/bench/perplexity/main.js',
  tune: 'dist/tuner/tune.js',
  benchmark: 'dist/tuner/benchmark.js',
};

const SERVERS = ['start', 'torchserve'];

const START_FLAGS = 'dist/server/config/flags.js';

/** For commands that print none themselves. */
const USAGE = {
  key: 'Usage: shardserve key [--name NAME] [--scopes infer,manage,metrics]',
  archive: `Usage: shardserve archive --model-name NAME [--version V] [--serialized-file FILE] [--model-file FILE] [--handler FILE|NAME]
                          [--extra-files A,B] [--config-file model-config.yaml] [--requirements-file FILE] [--runtime R]
                          [--export-path DIR] [--archive-format default|zip-store|tgz|no-archive] [--force]`,
};

const HELP = `Usage: shardserve <command> [arguments]

  start [-f config.properties] [-m models] [-s model-store]   start the server (what \`npm start\` does)
  serve MODEL…                                                start the server with these models: start -m MODEL…
  serve                                                       start it with the defaults of a SageMaker container
  torchserve --start|--stop --model-store DIR [--models M] …  the same as TorchServe's command; \`torchserve --help\` says more
  key [--name NAME] [--scopes infer,manage,metrics]           make a key and its entry for key_file
  doctor --security [flags of start]                          every listener, its scopes, secrets' files, folders written to; 1 when one is bad
  archive --model-name NAME --serialized-file FILE …           pack a model as .mar, with torch-model-archiver's flags
  pipeline serve-stdio PACK                                   a pipeline pack for a training loop
  cache list|remove|prune                                     models that were fetched; \`cache\` says more
  gpu list|install                                            the GPUs there are; CUDA's libraries for option.device=cuda
  partition DIR --tp N --dtype auto|fp32|int8|int4            split a checkpoint into shards; \`partition --help\` says more
  bench --model NAME --tp N …                                 measure speed; \`bench --help\` says more
  bench:peers                                                 the same beside llama.cpp; \`bench:peers --help\` says more
  bench:http                                                  the server's sockets beside the bare engine; \`bench:http --help\` says more
  bench:serving                                               the server under load, beside others; \`bench:serving --help\` says more
  bench:prefix                                                time to first token behind a known prefix
  bench:constrained                                           streams that must fit a schema, beside free ones
  bench:perplexity                                            what a weight format costs in quality
  tune [-f FILE]                                              find the configuration that answers best; \`tune --help\` says more
  benchmark SUITE                                             measure a suite's cases, compare with a baseline; \`benchmark --help\` says more
  build                                                       compile dist/ from the sources
  version                                                     print the version
  help                                                        print this

The server's keys are listed in server/config/KEYS.md: serving.properties, environment and flags.`;

async function runProgram(command, argv) {
  if (!prepare()) return 1;
  const program = path.join(ROOT, PROGRAMS[command]);
  if (!existsSync(program)) {
    console.error(`shardserve ${command} is not part of this installation: ${PROGRAMS[command]} is missing.`);
    return 1;
  }
  if (command === 'start' && argv.some((flag) => flag === '-h' || flag === '--help')) {
    const { START_HELP } = await import(pathToFileURL(path.join(ROOT, START_FLAGS)).href);
    console.log(START_HELP);
    return 0;
  }
  const isAsked = argv.some((flag) => flag === '-h' || flag === '--help');
  if (isAsked && command in USAGE) {
    console.log(USAGE[command]);
    return 0;
  }
  // A server lasts: what its programs and models only load through must not stay (server/machine/own-memory.ts).
  if (SERVERS.includes(command)) setFlagsFromString('--semi-space-growth-factor=1');
  // A program that runs by being imported reads its arguments where Node would have put them.
  process.argv = [process.argv[0], program, ...argv];
  const { main } = await import(pathToFileURL(program).href);
  const code = main ? await main(argv) : 0;
  // A usage that was asked for is no mistake.
  return isAsked && code === 2 ? 0 : code;
}

async function run([command = 'help', ...argv]) {
  if (command in PROGRAMS) return runProgram(command, argv);
  switch (command) {
    case 'serve':
      return runProgram('start', ['serve', ...argv]);
    case 'build':
      return build() ? 0 : 1;
    case 'version':
    case '--version':
      console.log(JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version);
      return 0;
    case 'help':
    case '--help':
    case '-h':
      console.log(HELP);
      return 0;
    default:
      console.error(`Unknown command ${command}.\n\n${HELP}`);
      return 2;
  }
}

const [, , ...given] = process.argv;
try {
  const exitCode = await run(given);
  // The event loop ends by itself: a server keeps running after its main() has resolved.
  if (typeof exitCode === 'number' && exitCode !== 0) process.exitCode = exitCode;
} catch (error) {
  if (error?.code?.startsWith('ERR_PARSE_ARGS')) {
    console.error(`shardserve ${given[0]}: ${error.message}`);
    process.exitCode = 2;
  } else {
    console.error(error?.name === 'ServingError' ? `[${error.code}] ${error.message}` : error);
    process.exitCode = 1;
  }
}
