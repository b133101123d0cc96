#!/usr/bin/env node
/**
 * Puts the container image and a model on an endpoint of SageMaker's: build, push, upload, create-model, create-endpoint-config,
 * create-endpoint, wait, one request. With --delete, the reverse.
 *
 * In      options: see HELP; `aws` (version 2) and `docker` on the PATH, with credentials of their own
 * Out     the commands as they run; --dry-run: the commands alone, as lines of a shell script, and nothing is run
 * Limits  those of SageMaker's API, checked before the first command: a name of 63 letters, digits and hyphens, 60 to 3,600 s, 1 to 512 GB
 * Errors  a sentence that names the option, exit code 2; a command that fails ends the script with its own message, exit code 1
 * Source  the shapes of CreateModel, CreateEndpointConfig and ProductionVariant of SageMaker's API reference
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const HELP = `Usage: node docker/sagemaker.mjs --account N --role-arn ARN --bucket NAME --model FILE.tar.gz [options]

  --account N                    the AWS account's twelve digits
  --role-arn ARN                 the role that SageMaker runs the container as
  --bucket NAME[/PREFIX]         where the model's archive goes in S3
  --model FILE                   an archive with serving.properties and what it names (docker/README.md)
  --region NAME                  default us-east-1
  --name NAME                    of model, configuration and endpoint (default shardserve)
  --cuda                         the image of docker/Dockerfile.cuda on a GPU instance
  --instance-type TYPE           default ml.c7i.4xlarge; with --cuda ml.g5.12xlarge
  --instance-count N             default 1
  --tensor-parallel-degree N     default 2
  --env KEY=VALUE                of the container; may be given again
  --volume-gb N                  the disk for models and shards (default 256; left out with --no-volume, for instances with disks of their own)
  --download-timeout-s N         for the model's archive (default 1800)
  --startup-timeout-s N          until /ping answers: the split and the load count (default 1800)
  --input TEXT                   the request at the end (default "Once upon a time")
  --only STEP,STEP               some of: image, model, endpoint, invoke
  --delete                       deletes endpoint, configuration and model; image and archive stay
  --dry-run                      prints the commands and runs none`;

const OPTIONS = {
  account: { type: 'string' },
  'role-arn': { type: 'string' },
  bucket: { type: 'string' },
  model: { type: 'string' },
  region: { type: 'string', default: 'us-east-1' },
  name: { type: 'string', default: 'shardserve' },
  cuda: { type: 'boolean', default: false },
  'instance-type': { type: 'string' },
  'instance-count': { type: 'string', default: '1' },
  'tensor-parallel-degree': { type: 'string', default: '2' },
  env: { type: 'string', multiple: true, default: [] },
  'volume-gb': { type: 'string', default: '256' },
  'no-volume': { type: 'boolean', default: false },
  'download-timeout-s': { type: 'string', default: '1800' },
  'startup-timeout-s': { type: 'string', default: '1800' },
  input: { type: 'string', default: 'Once upon a time' },
  only: { type: 'string', default: 'image,model,endpoint,invoke' },
  delete: { type: 'boolean', default: false },
  'dry-run': { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
};
const STEPS = ['image', 'model', 'endpoint', 'invoke'];
const VARIANT = 'AllTraffic';
/** aws writes the body of an invocation into a file and nowhere else. */
const ANSWER_FILE = 'answer.json';

class WrongOption extends Error {}

const PATTERNS = {
  account: [/^\d{12}$/, 'twelve digits'],
  'role-arn': [/^arn:aws[a-z-]*:iam::\d{12}:role\/?[\w+=,.@/-]+$/, 'arn:aws:iam::ACCOUNT:role/NAME'],
  bucket: [/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[^\s]*)?$/, "a bucket's name, and a prefix after a slash"],
  model: [/\.(tar\.gz|tgz)$/, 'a .tar.gz, as SageMaker unpacks no other'],
  region: [/^[a-z]{2}(-[a-z]+)+-\d$/, 'a region such as us-east-1'],
  name: [/^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/, 'at most 63 letters, digits and hyphens'],
};
const RANGES = {
  'instance-count': [1, 1000],
  'tensor-parallel-degree': [1, 64],
  'volume-gb': [1, 512],
  'download-timeout-s': [60, 3600],
  'startup-timeout-s': [60, 3600],
};

function checked(values) {
  for (const [name, [pattern, form]] of Object.entries(PATTERNS)) {
    // Whoever deletes names no archive and no role.
    if (values[name] === undefined && values.delete) continue;
    if (values[name] === undefined) throw new WrongOption(`--${name} is missing: ${form}`);
    if (!pattern.test(values[name])) throw new WrongOption(`--${name} is ${form}, not "${values[name]}"`);
  }
  for (const [name, [least, most]] of Object.entries(RANGES)) {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least || value > most)
      throw new WrongOption(`--${name} is a whole number from ${least} to ${most}, not "${values[name]}"`);
  }
  for (const pair of values.env)
    if (!/^[A-Za-z_]\w*=/.test(pair)) throw new WrongOption(`--env is KEY=VALUE, not "${pair}"`);
  const steps = values.only.split(',');
  const unknown = steps.find((step) => !STEPS.includes(step));
  if (unknown !== undefined)
    throw new WrongOption(`--only has steps of ${STEPS.join(', ')}, not "${unknown}"`);
  return steps;
}

/**
 * The commands in their order: `run` is a command and its arguments, `pipe` one more that gets its output, `prints` the file that it writes
 * and that is shown, `unless` a command that succeeds where this one is not needed.
 */
export function commandsFor(values) {
  const steps = checked(values);
  const { account, cuda, name, region } = values;
  const aws = (...args) => ['aws', ...args, '--region', region];
  const sagemaker = (...args) => aws('sagemaker', ...args);
  if (values.delete) {
    return [
      { run: sagemaker('delete-endpoint', '--endpoint-name', name) },
      { run: sagemaker('delete-endpoint-config', '--endpoint-config-name', name) },
      { run: sagemaker('delete-model', '--model-name', name) },
    ];
  }
  const local = cuda ? 'shardserve-cuda' : 'shardserve';
  const registry = `${account}.dkr.ecr.${region}.amazonaws.com`;
  const image = `${registry}/${local}:latest`;
  const archive = `s3://${values.bucket.replace(/\/$/, '')}/${path.basename(values.model)}`;
  const environment = {
    TENSOR_PARALLEL_DEGREE: values['tensor-parallel-degree'],
    ...Object.fromEntries(values.env.map((pair) => pair.split(/=(.*)/s, 2))),
  };
  const variant = {
    VariantName: VARIANT,
    ModelName: name,
    InstanceType: values['instance-type'] ?? (cuda ? 'ml.g5.12xlarge' : 'ml.c7i.4xlarge'),
    InitialInstanceCount: Number(values['instance-count']),
    ...(!values['no-volume'] && { VolumeSizeInGB: Number(values['volume-gb']) }),
    ModelDataDownloadTimeoutInSeconds: Number(values['download-timeout-s']),
    ContainerStartupHealthCheckTimeoutInSeconds: Number(values['startup-timeout-s']),
  };
  const container = { Image: image, ModelDataUrl: archive, Environment: environment };
  const body = JSON.stringify({ inputs: values.input, parameters: { max_new_tokens: 64 } });
  const commands = {
    image: [
      { run: ['docker', 'build', '-f', 'docker/Dockerfile', '-t', 'shardserve', '.'] },
      ...(cuda ? [{ run: ['docker', 'build', '-f', 'docker/Dockerfile.cuda', '-t', local, '.'] }] : []),
      {
        run: aws('ecr', 'create-repository', '--repository-name', local),
        unless: aws('ecr', 'describe-repositories', '--repository-names', local),
      },
      {
        run: aws('ecr', 'get-login-password'),
        pipe: ['docker', 'login', '--username', 'AWS', '--password-stdin', registry],
      },
      { run: ['docker', 'tag', local, image] },
      { run: ['docker', 'push', image] },
    ],
    model: [{ run: aws('s3', 'cp', values.model, archive) }],
    endpoint: [
      {
        run: sagemaker(
          ...['create-model', '--model-name', name, '--execution-role-arn', values['role-arn']],
          ...['--primary-container', JSON.stringify(container)],
        ),
      },
      {
        run: sagemaker(
          ...['create-endpoint-config', '--endpoint-config-name', name],
          ...['--production-variants', JSON.stringify([variant])],
        ),
      },
      {
        run: sagemaker('create-endpoint', '--endpoint-name', name, '--endpoint-config-name', name),
      },
      { run: sagemaker('wait', 'endpoint-in-service', '--endpoint-name', name) },
    ],
    invoke: [
      {
        run: aws(
          ...['sagemaker-runtime', 'invoke-endpoint', '--endpoint-name', name, '--content-type'],
          ...['application/json', '--cli-binary-format', 'raw-in-base64-out', '--body', body, ANSWER_FILE],
        ),
        prints: ANSWER_FILE,
      },
    ],
  };
  return STEPS.filter((step) => steps.includes(step)).flatMap((step) => commands[step]);
}

const quoted = (argument) =>
  /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
/** Values of the container's variables whose names say that they are secret. */
const SECRET = /"(\w*(?:TOKEN|SECRET|PASSWORD|KEY)\w*)":"(?:[^"\\]|\\.)*"/gi;
const line = (command) => command.map(quoted).join(' ');

/** A command of the plan as a line of a shell script. */
export function asShell({ run, pipe, prints, unless }) {
  const main = pipe === undefined ? line(run) : `${line(run)} | ${line(pipe)}`;
  const shown = prints === undefined ? main : `${main} && cat ${prints}`;
  return unless === undefined ? shown : `${line(unless)} >/dev/null 2>&1 || ${shown}`;
}

const ROOT = fileURLToPath(new URL('..', import.meta.url));

function succeeds([program, ...args]) {
  try {
    execFileSync(program, args, { cwd: ROOT, stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function runCommand(command) {
  if (command.unless !== undefined && succeeds(command.unless)) return;
  console.error(`+ ${asShell({ ...command, unless: undefined }).replace(SECRET, '"$1":"…"')}`);
  const { prints } = command;
  const scratch = prints === undefined ? null : mkdtempSync(path.join(tmpdir(), 'shardserve-sagemaker-'));
  try {
    const [program, ...args] = command.run.map((one) => (one === prints ? path.join(scratch, one) : one));
    runOne(command, program, args);
    if (scratch !== null) process.stdout.write(readFileSync(path.join(scratch, prints)));
  } finally {
    if (scratch !== null) rmSync(scratch, { recursive: true });
  }
}

function runOne(command, program, args) {
  // A password is told to nobody but the next command.
  const stdio = ['ignore', command.pipe === undefined ? 'inherit' : 'pipe', 'inherit'];
  const output = execFileSync(program, args, { cwd: ROOT, stdio });
  if (command.pipe === undefined) return;
  const [next, ...nextArgs] = command.pipe;
  execFileSync(next, nextArgs, { cwd: ROOT, input: output, stdio: ['pipe', 'inherit', 'inherit'] });
}

export function main(argv) {
  try {
    const { values } = parseArgs({ args: argv, options: OPTIONS });
    if (values.help) {
      console.log(HELP);
      return 0;
    }
    // A path is the caller's, the commands run in the repository's root.
    if (values.model !== undefined && !values['dry-run']) values.model = path.resolve(values.model);
    const commands = commandsFor(values);
    if (values['dry-run']) console.log(['set -euo pipefail', ...commands.map(asShell)].join('\n'));
    else commands.forEach(runCommand);
    return 0;
  } catch (error) {
    if (error instanceof WrongOption || error.code?.startsWith('ERR_PARSE_ARGS')) {
      console.error(`${error.message}; --help lists the options.`);
      return 2;
    }
    if (error.code === 'ENOENT') console.error(`${error.path} is not on the PATH: it is needed for this.`);
    return 1;
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url))
  process.exitCode = main(process.argv.slice(2));
