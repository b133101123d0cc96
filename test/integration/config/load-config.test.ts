/** loadConfig over real folders: precedence, discovery of models, batching rules, and the exact words of errors. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Config, ModelConfig } from '../../../server/config/config.js';
import { loadConfig } from '../../../server/config/load-config.js';
import { repositoryRoot } from '../../support/repository-root.js';

let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'shardserve-config-'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function write(file: string, text: string): string {
  const at = path.join(root, file);
  mkdirSync(path.dirname(at), { recursive: true });
  writeFileSync(at, text);
  return at;
}

/** A folder of the default model store that looks like a checkpoint. */
function makeModel(name: string, properties?: string): string {
  if (properties !== undefined) write(`models/${name}/serving.properties`, properties);
  return path.dirname(write(`models/${name}/config.json`, '{}'));
}

const load = (argv: string[] = [], env: Record<string, string> = {}): Config =>
  loadConfig({ argv, env, cwd: root, installation: root });

const only = (config: Config): ModelConfig => {
  expect(config.models).toHaveLength(1);
  return config.models[0]!;
};

function errorOf(argv: string[] = [], env: Record<string, string> = {}): string {
  try {
    load(argv, env);
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    return (error as Error).message;
  }
  return 'no error';
}

describe('precedence of a key of a model', () => {
  const SOURCES = ['default', 'root', 'config file', 'environment', 'model'] as const;

  it.each(SOURCES.map((winner, count) => ({ winner, count, value: [1, 2, 4, 8, 16][count] })))(
    'the strongest of the sources up to $winner wins',
    ({ count, value }) => {
      const key = 'option.tensor_parallel_degree';
      if (count >= 1) write('serving.properties', `${key}=2\n`);
      const file = write('c.properties', count >= 2 ? `${key}=4\n` : '');
      makeModel('m', count >= 4 ? `${key}=16\n` : undefined);
      const config = load(['-f', file], count >= 3 ? { TENSOR_PARALLEL_DEGREE: '8' } : {});
      expect(only(config).tensorParallelDegree).toBe(value);
    },
  );

  it('a registration argument wins over the model file', () => {
    const folder = makeModel('m', 'engine=Python\n');
    expect(errorOf(['-m', `m::PyTorch=${folder}`])).toMatch(
      /engine is PyTorch; it must be one of Rubikon, DeepSpeed, MPI, Python, OnnxRuntime, Handler$/,
    );
    expect(only(load(['-m', `m::MPI=${folder}`])).name).toBe('m');
  });
});

describe('precedence of a server-wide key', () => {
  it('environment, then flag, then config file, then root file, then default', () => {
    makeModel('m');
    for (const name of ['a', 'b', 'c', 'd']) mkdirSync(path.join(root, name));
    const storeOf = (argv: string[], env: Record<string, string> = {}): string =>
      path.basename(load(['-m', 'NONE', ...argv], env).server.modelStore);
    expect(storeOf([])).toBe('models');
    write('serving.properties', 'model_store=a\n');
    expect(storeOf([])).toBe('a');
    const file = write('conf.properties', 'model_store=b\n');
    expect(storeOf(['-f', file])).toBe('b');
    expect(storeOf(['-f', file, '-s', 'c'])).toBe('c');
    expect(storeOf(['-f', file, '-s', 'c'], { SERVING_MODEL_STORE: 'd' })).toBe('d');
  });

  it('reads the config file that MODEL_SERVER_HOME holds', () => {
    write('home/conf/config.properties', 'job_queue_size=5\n');
    makeModel('m');
    expect(only(load([], { MODEL_SERVER_HOME: path.join(root, 'home') })).jobQueueSize).toBe(5);
  });

  it("takes the installation's serving.properties when the working directory has none", () => {
    makeModel('m');
    write('serving.properties', 'job_queue_size=6\n');
    mkdirSync(path.join(root, 'elsewhere'));
    const config = loadConfig({ argv: [], env: {}, cwd: path.join(root, 'elsewhere'), installation: root });
    expect(only(config).jobQueueSize).toBe(6);
  });
});

describe('batching', () => {
  const batchingOf = (properties: string): string => {
    makeModel('m', properties);
    return only(load()).batching;
  };

  it('is rolling by default, for every name of rolling batch, and for batch_size=1', () => {
    const asAsync = 'option.async_mode=true\noption.rolling_batch=disable';
    for (const text of [
      '',
      'batch_size=1',
      'option.rolling_batch=auto',
      'option.rolling_batch=lmi-dist',
      asAsync,
    ]) {
      expect(batchingOf(text), text).toBe('rolling');
    }
  });

  it('is dynamic for batch_size above 1, and when rolling batch is disabled', () => {
    for (const text of ['batch_size=4', 'option.rolling_batch=disable', 'max_dynamic_batch_size=2']) {
      expect(batchingOf(text), text).toBe('dynamic');
    }
  });

  it('refuses both together and names both places', () => {
    makeModel('m', 'batch_size=4\n\noption.rolling_batch=vllm\n');
    expect(errorOf()).toBe(
      'models/m/serving.properties:1: batch_size=4 (models/m/serving.properties:1) asks for dynamic batching and ' +
        'option.rolling_batch=vllm (models/m/serving.properties:3) for rolling batch; ' +
        'give batch_size=1 or option.rolling_batch=disable',
    );
  });

  it('refuses both together when they come from two layers', () => {
    makeModel('m', 'batch_size=4\n');
    expect(errorOf([], { OPTION_ROLLING_BATCH: 'auto' })).toContain(
      'OPTION_ROLLING_BATCH=auto (environment)',
    );
  });
});

describe('dtype', () => {
  const dtypeOf = (properties: string): string => {
    makeModel('m', properties);
    return only(load()).dtype;
  };

  it('quantize wins over a dtype that is no integer', () => {
    expect(dtypeOf('option.dtype=fp16\noption.quantize=int4\n')).toBe('int4');
    expect(dtypeOf('option.load_in_8bit=true\n')).toBe('int8');
    expect(dtypeOf('option.dtype=fp32\n')).toBe('fp32');
  });

  it('refuses two different integer types', () => {
    makeModel('m', 'option.dtype=int8\noption.quantize=int4\n');
    expect(errorOf()).toMatch(/quantize=int4 .* contradicts option\.dtype=int8/);
  });
});

it("vectors have length 1 unless their model's file says no, or leaves it to the checkpoint", () => {
  const normalized = (text: string) => {
    makeModel('m', text);
    return only(load()).normalize;
  };
  expect(normalized('')).toBe(true);
  expect(normalized('option.normalize=false\n')).toBe(false);
  expect(normalized('option.normalize=auto\n')).toBeNull();
});

describe('models to load', () => {
  it('ALL loads every folder with a config.json, by name, and leaves others alone', () => {
    makeModel('b-model.v2');
    makeModel('a');
    write('models/training/train.py', '');
    expect(load().models.map(({ name }) => name)).toEqual(['a', 'b_model_v2']);
    expect(load().models[0]!.folder).toBe(path.join(root, 'models', 'a'));
  });

  it('a model store that is a model itself is loaded', () => {
    const folder = makeModel('m');
    expect(only(load(['-s', folder]))).toMatchObject({ name: 'm', folder });
  });

  it('a store with a serving.properties of its own is one model, as in a container of LMI', () => {
    const checkpoint = path.dirname(write('checkpoints/tiny/config.json', '{}'));
    write('opt/serving.properties', `option.model_id=${checkpoint}\nbatch_size=1\n`);
    write('opt/code/config.json', '{}');
    expect(only(load(['-s', 'opt']))).toMatchObject({ name: 'opt', folder: checkpoint });
    // Unless it is the server's own file.
    write('serving.properties', 'job_queue_size=7\n');
    write('m/config.json', '{}');
    expect(load(['-s', '.']).models.map(({ name }) => name)).toContain('m');
  });

  it('finds the model in the only folder or archive of a folder, and passes over hidden ones', () => {
    write('models/outer/inner/config.json', '{}');
    write('models/packed/model.zip', '');
    write('models/.cache/config.json', '{}');
    write('models/two/a/config.json', '{}');
    write('models/two/b/config.json', '{}');
    const config = load();
    expect(config.models.map(({ name }) => name)).toEqual(['inner']);
    expect(config.remoteModels).toMatchObject([{ name: null, url: path.join(root, 'models/packed') }]);
    expect(only(load(['-m', 'outer']))).toMatchObject({
      name: 'outer',
      folder: path.join(root, 'models/outer/inner'),
    });
    expect(load(['-m', 'x=packed']).remoteModels).toMatchObject([{ name: 'x' }]);
  });

  it('a name and version twice is told also where an archive has it', () => {
    makeModel('m');
    write('models/packed.zip', '');
    expect(errorOf(['-m', 'y=packed.zip,y=m'])).toContain('there is already a model named y');
    expect(errorOf(['-m', 'y=packed.zip,y=packed.zip'])).toContain('there is already a model named y');
    expect(load(['-m', 'y:1=packed.zip,y:2=packed.zip']).remoteModels).toHaveLength(2);
  });

  it('NONE loads none, an empty store warns', () => {
    makeModel('m');
    expect(load(['-m', 'NONE'])).toMatchObject({ models: [], warnings: [] });
    mkdirSync(path.join(root, 'empty'));
    expect(load(['-s', 'empty']).warnings).toEqual([
      expect.stringMatching(
        /^model_store: no model was found in .*\/empty\. A model is a folder with config\.json/,
      ),
    ]);
  });

  it('a folder with an .onnx file of any name is a model; one with weights of another format says what it lacks', () => {
    makeModel('m');
    write('models/vision/resnet50.onnx', '');
    write('models/notes/README.md', '');
    write('models/torch/weights.pt', '');
    write('models/half/model.safetensors', '');
    const config = load();
    expect(config.models.map(({ engine, name }) => `${name} ${engine}`)).toEqual(['m llm', 'vision onnx']);
    const warning = (name: string, what: string) =>
      expect.stringContaining(`model_store: ${root}/models/${name} is no model: it holds ${what}`);
    expect(config.warnings).toEqual([
      warning(
        'half',
        'model.safetensors, which is weights, but its config.json is missing. A model is a folder',
      ),
      warning('torch', "weights.pt, which is PyTorch's: export it to ONNX"),
    ]);
    expect(errorOf(['-m', 'torch'])).toMatch(
      /no config\.json in .*; it holds weights\.pt.* A model is a folder with/,
    );
  });

  it('entries give name, version and path, by path, by file URL or by the name in the store', () => {
    const folder = makeModel('m');
    expect(only(load(['-m', `x:v1=${folder}`]))).toMatchObject({ name: 'x', version: 'v1', folder });
    expect(only(load(['-m', `[y]=file://${folder}`]))).toMatchObject({ name: 'y', version: null, folder });
    expect(only(load(['-m', 'm']))).toMatchObject({ name: 'm', folder });
  });

  it.each([
    ['djl://a/b', 'models of djl:// are not fetched'],
    ['missing', 'a model of the hub is given as hf://missing'],
    ['./org/model', 'there is no folder or archive'],
    ['models/m/config.json', 'is a file and no archive or GGUF: name the folder that it lies in'],
    // Its first folder is there: a path is meant.
    ['models/missing', 'a model of the hub is given as hf://models/missing'],
    ['a:b:c:d:e=m', 'at most name:version:engine:devices'],
    ['a/b=m', 'may hold letters, digits'],
    ['x::PyTorch=m', 'engine is PyTorch'],
    ['x:::gpu0=m', 'set option.device=cuda'],
    ['empty', 'there is no config.json in'],
    ['m,m', 'there is already a model named m'],
  ])('the entry %s is refused: %s', (entry, message) => {
    makeModel('m');
    mkdirSync(path.join(root, 'empty'));
    expect(errorOf(['-m', entry])).toContain(message);
  });

  it('HF_MODEL_ID is the only model, unless load_models is given', () => {
    const folder = path.dirname(write('hub/tiny/config.json', '{}'));
    makeModel('m');
    expect(only(load([], { HF_MODEL_ID: folder }))).toMatchObject({ name: 'tiny', folder });
    const both = load([], { HF_MODEL_ID: folder, SERVING_LOAD_MODELS: 'ALL' });
    expect(both.models.map(({ name }) => name)).toEqual(['tiny', 'm']);
    expect(errorOf([], { HF_MODEL_ID: './org/model' })).toContain('there is no folder');
  });

  it('URLs, archives and ids of the hub are fetched later, under the name and with the arguments given', () => {
    makeModel('m');
    const archive = write('models/packed.tar.gz', '');
    const remote = (argv: string[], env: Record<string, string> = {}) => load(argv, env).remoteModels;
    expect(remote(['-m', 's3://bucket/m x:v1::cpu=https://host/m.zip'])).toMatchObject([
      { name: null, version: null, url: 's3://bucket/m', arguments: {} },
      { name: 'x', version: 'v1', url: 'https://host/m.zip', arguments: { load_on_devices: 'cpu' } },
    ]);
    expect(remote([])).toMatchObject([{ url: archive }]);
    expect(remote(['-m', 'packed.tar.gz'])).toMatchObject([{ url: archive }]);
    expect(remote(['-m', 'org/model', 'x:v1=org/model@main'])).toMatchObject([
      { name: null, version: null, url: 'hf://org/model' },
      { name: 'x', version: 'v1', url: 'hf://org/model@main' },
    ]);
    const hub = { HF_MODEL_ID: 'org/model', HF_REVISION: 'v2' };
    expect(load([], hub)).toMatchObject({ models: [], remoteModels: [{ url: 'hf://org/model@v2' }] });
  });

  it('workflows of the store and of load_models are loaded after the models, under the name given', () => {
    makeModel('m');
    const flow = path.dirname(write('models/flow/workflow.json', '{}'));
    const war = write('models/packed.war', '');
    const ensemble = path.dirname(
      write('models/both/config.pbtxt', 'name: "both"\nensemble_scheduling { step [] }\n'),
    );
    const workflows = (argv: string[]) => {
      const config = load(argv);
      expect(config.remoteModels).toEqual([]);
      return config.workflows;
    };
    expect(workflows([])).toEqual([ensemble, flow, war].map((url) => ({ name: null, url })));
    expect(only(load([])).name).toBe('m');
    const url = 'https://host/x/workflow.json';
    expect(workflows(['-m', `flow [y]=packed.war z=${flow}/workflow.json ${url}`])).toEqual([
      { name: null, url: flow },
      { name: 'y', url: war },
      { name: 'z', url: `${flow}/workflow.json` },
      { name: null, url },
    ]);
    expect(errorOf(['-m', 'x:v1=packed.war'])).toContain('a workflow has a name only');
  });

  it("option.model_id in a model's file may be the id of a model of the hub, or a URL", () => {
    write('models/m/serving.properties', 'option.model_id=org/model\noption.revision=v2\n');
    expect(only(load())).toMatchObject({ name: 'm', folder: '', checkpointUrl: 'hf://org/model@v2' });
    write('models/m/serving.properties', 'option.model_id=s3://bucket/model/\n');
    expect(only(load()).checkpointUrl).toBe('s3://bucket/model/');
  });

  it("a registered model gets the layers of its kind, the registration's arguments the strongest", () => {
    write('serving.properties', 'batch_size=2\nmax_idle_time=5\n');
    const folder = makeModel('m', 'max_idle_time=7\nminWorkers=3\ncpu.maxWorkers=4\n');
    const config = load(['-m', 'NONE']);
    const registration = {
      ...{ name: 'r', version: 'v1', url: 'file:///x', where: 'registration' },
      arguments: { job_queue_size: '9', 'cpu.minWorkers': '2' },
    };
    expect(config.configure(registration, folder).config).toMatchObject({
      ...{ name: 'r', version: 'v1', url: 'file:///x', folder, jobQueueSize: 9, batchSize: 2 },
      ...{ maxIdleSeconds: 7, minGroups: 2, maxGroups: 4 },
    });
    expect(config.configure(registration, null).config).toMatchObject({ maxIdleSeconds: 5, maxGroups: 2 });
    const bad = { ...registration, arguments: { load_on_devices: 'gpu0' } };
    expect(() => config.configure(bad, null)).toThrow(
      'registration: load_on_devices names GPU 0, but the model is computed on the CPU: set option.device=cuda',
    );
  });

  it.each([
    ['', 1, 1],
    ['minWorkers=2', 2, 2],
    ['maxWorkers=3', 1, 3],
    ['minWorkers=4\nmaxWorkers=2', 2, 2],
    ['minWorkers=0', 0, 1],
    ['minWorkers=0\nmaxWorkers=0', 0, 0],
    ['minWorkers=5\ncpu.minWorkers=1\ngpu.maxWorkers=9\nmaxWorkers=2', 1, 2],
  ])('the worker groups of %j are %i to %i', (properties, minGroups, maxGroups) => {
    makeModel('m', properties);
    expect(only(load())).toMatchObject({ minGroups, maxGroups });
  });

  it.each([
    ['', { minGroups: 1, maxGroups: 1, fillDevices: true, gpus: null, device: 'cuda' }],
    ['load_on_devices=0;gpu3', { fillDevices: true, gpus: [0, 3], device: 'cuda' }],
    ['gpu.maxWorkers=2\nmaxWorkers=5', { minGroups: 1, maxGroups: 2, fillDevices: false }],
    ['load_on_devices=cpu\nmaxWorkers=3', { device: 'cpu', maxGroups: 3, gpus: null, fillDevices: false }],
  ])('on GPUs %j is %o', (properties, expected) => {
    makeModel('m', `option.device=cuda\n${properties}`);
    expect(only(load())).toMatchObject(expected);
  });

  it("option.model_id in a model's file names the folder of its checkpoint", () => {
    const checkpoint = path.dirname(write('checkpoints/tiny/config.json', '{}'));
    write('models/m/serving.properties', 'option.model_id=../../checkpoints/tiny\n');
    expect(only(load())).toMatchObject({ name: 'm', folder: checkpoint });
  });

  it('a folder with a Python handler of its own is refused by its line, one that only asks a pipeline is not', () => {
    makeModel('m');
    write('models/m/model.py', 'import os\nos.remove("x")\n');
    expect(errorOf()).toMatch(/model\.py:2: os\.remove\(…\) is not read\. No Python runs here/);
    write(
      'models/m/model.py',
      `from transformers import AutoModelForCausalLM, pipeline
from djl_python import Output
def handle(inputs):
    model = AutoModelForCausalLM.from_pretrained("org/name", revision="v2", torch_dtype="float16")
    return Output().add(pipeline("text-generation", model)(inputs.get_as_string(), do_sample=True))
`,
    );
    expect(only(load())).toMatchObject({
      ...{ checkpointUrl: 'hf://org/name@v2', dtype: 'fp16' },
      predictor: { parameters: { do_sample: true }, answer: 'list' },
    });
  });

  it('a handler with option.model_id has the checkpoint as a model of its own', () => {
    const checkpoint = path.dirname(write('checkpoints/tiny/config.json', '{}'));
    write('models/m/model.ts', '');
    write('models/m/serving.properties', 'option.model_id=../../checkpoints/tiny\nbatch_size=4\n');
    expect(only(load())).toMatchObject({
      ...{ engine: 'handler', batchSize: 4 },
      boundModel: { name: 'm.model', engine: 'llm', folder: checkpoint, batchSize: 1, batching: 'rolling' },
    });
  });
});

describe('where to listen', () => {
  const addresses = (argv: string[], env: Record<string, string> = {}) => {
    const { inferenceAddress, managementAddress } = load(['-m', 'NONE', ...argv], env).server;
    return [inferenceAddress, managementAddress].map(({ host, path, port }) => `${host}:${port}${path}`);
  };

  it('management follows inference unless it has an address of its own', () => {
    expect(addresses([], { SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:81' })).toEqual([
      '127.0.0.1:81',
      '127.0.0.1:81',
    ]);
    expect(addresses([], { SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:82' })).toEqual([
      '127.0.0.1:8080',
      '127.0.0.1:82',
    ]);
  });

  it('is changed by PORT where nobody says more, and by --host and --port whatever others say', () => {
    expect(addresses([], { PORT: '90' })).toEqual(['127.0.0.1:90', '127.0.0.1:90']);
    const env = { PORT: '90', SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:81' };
    expect(addresses([], env)[0]).toBe('127.0.0.1:81');
    expect(addresses(['--port', '83'], env)[0]).toBe('127.0.0.1:83');
    expect(addresses(['--host', '127.0.0.2'], env)[0]).toBe('127.0.0.2:81');
  });

  it('refuses what is no port', () => {
    expect(errorOf(['-m', 'NONE', '--port', '70000'])).toBe(
      'flag --port is 70000; it must be a whole number from 0 to 65535',
    );
    expect(() => load(['-m', 'NONE'], { PORT: 'x' })).toThrow(/environment: PORT is x; it must be/);
  });
});

describe('errors and warnings', () => {
  it('names file, line, key and nearest name of an unknown key, in every file, at once', () => {
    write('serving.properties', '# comment\noption.tensor_parallel_degre=2\n');
    makeModel('m', 'a=1\\\n  2\nbatchsize=4\nlog_level=debug\n');
    expect(errorOf()).toBe(
      [
        'serving.properties:2: option.tensor_parallel_degre is not a known key; did you mean option.tensor_parallel_degree?',
        'models/m/serving.properties:1: a is not a known key',
        'models/m/serving.properties:3: batchsize is not a known key; did you mean batch_size?',
        "models/m/serving.properties:4: log_level is a key of the whole server; it belongs in the root's serving.properties",
      ].join('\n'),
    );
  });

  it('warns of an option that nobody knows, as LMI passes it on, and refuses one that is near a known one', () => {
    write('serving.properties', 'option.swiftness_of_the_hare=2\n');
    makeModel('m', 'option.zzz_quux=1\noption.ouput_formatter=json\n');
    expect(errorOf()).toBe(
      'models/m/serving.properties:2: option.ouput_formatter is not a known key; did you mean option.output_formatter?',
    );
    makeModel('m', 'option.zzz_quux=1\n');
    expect(load().warnings).toEqual([
      'serving.properties:1: option.swiftness_of_the_hare is not known here and has no effect',
      'models/m/serving.properties:1: option.zzz_quux is not known here and has no effect',
    ]);
  });

  it('streams are asked for by a request, and the sentence says how else', () => {
    makeModel('m', 'option.enable_streaming=false\n');
    expect(load().warnings).toEqual([]);
    makeModel('m', 'option.enable_streaming=huggingface\n');
    expect(errorOf()).toMatch(
      /enable_streaming=huggingface: a request asks for a stream itself .*output_formatter=jsonlines/,
    );
  });

  it('checks server-wide keys of models even when no model is loaded', () => {
    write('serving.properties', 'batch_size=0\n');
    expect(errorOf(['-m', 'NONE'])).toBe(
      'serving.properties:1: batch_size is 0; it must be a whole number from 1 to 1024',
    );
  });

  it('names the line of a syntax error and a config file that is not there', () => {
    write('serving.properties', 'ok=\\u12\n');
    expect(errorOf(['-f', 'nowhere.properties'])).toMatch(
      /^flag -f: there is no file .*nowhere\.properties\nserving\.properties:1: \\u needs four hexadecimal digits/,
    );
  });

  it('warns of a key given twice, and the last one counts', () => {
    makeModel('m', 'job_queue_size=1\njob_queue_size=2\n');
    const config = load();
    expect(only(config).jobQueueSize).toBe(2);
    expect(config.warnings).toEqual([
      'models/m/serving.properties:2: job_queue_size was already given on line 1; the last one counts',
    ]);
  });

  it('says a warning once, however many models there are', () => {
    makeModel('a');
    makeModel('b');
    expect(load([], { OPTION_LOAD_FORMAT: 'auto' }).warnings).toHaveLength(1);
  });

  it('reads a chat template from a file beside the properties', () => {
    write('models/m/chat.jinja', '{{ messages[0].content }}');
    makeModel('m', 'option.chat_template=chat.jinja\n');
    expect(only(load()).chatTemplate).toBe('{{ messages[0].content }}');
  });

  it('gives a frozen config', () => {
    makeModel('m');
    const config = load();
    expect(
      Object.isFrozen(config) && Object.isFrozen(config.server) && Object.isFrozen(config.models[0]),
    ).toBe(true);
  });
});

describe('the configuration of this repository', () => {
  it('splits the embedded model over two shard workers, and the environment can change it', () => {
    const degreeOf = (env: Record<string, string>): unknown => {
      const { models } = loadConfig({ argv: [], env, cwd: repositoryRoot, installation: repositoryRoot });
      return models.find(({ name }) => name === 'embedded')?.tensorParallelDegree;
    };
    expect(degreeOf({})).toBe(2);
    expect(degreeOf({ TENSOR_PARALLEL_DEGREE: '4' })).toBe(4);
  });
});

describe('a container of SageMaker', () => {
  const serve = (env: Record<string, string> = {}, argv: string[] = []) =>
    loadConfig({
      argv: ['serve', ...argv],
      env,
      cwd: root,
      installation: root,
      sageMakerModelFolder: path.join(root, 'opt'),
    });

  it('serves /opt/ml/model on port 8080 of all interfaces, unless it is told otherwise', () => {
    write('opt/config.json', '{}');
    const { server, models } = serve();
    expect(server.inferenceAddress).toMatchObject({ host: '0.0.0.0', port: 8080 });
    // SageMaker sends no key: requests need none, all else stays closed.
    expect(server).toMatchObject({ insecure: true, anonymousScopes: ['infer'] });
    expect(server.managementAddress).toEqual(server.inferenceAddress);
    expect(models.map(({ folder }) => folder)).toEqual([path.join(root, 'opt')]);
    write('serving.properties', 'inference_address=http://127.0.0.1:9000\n');
    expect(serve().server.inferenceAddress).toMatchObject({ host: '127.0.0.1', port: 9000 });
  });

  it('loads nothing at start with several models: they are registered one by one', () => {
    write('opt/config.json', '{}');
    expect(serve({ SAGEMAKER_MULTI_MODEL: 'true' }).models).toEqual([]);
  });

  it('translates its environment; the size in bytes is stronger than the size in MiB', () => {
    makeModel('m');
    const env = { SAGEMAKER_MAX_PAYLOAD_IN_MB: '3', SAGEMAKER_STARTUP_TIMEOUT: '77' };
    expect(load([], env).server.maxRequestBytes).toBe(3 * 1024 * 1024);
    expect(only(load([], env)).modelLoadingTimeoutSeconds).toBe(77);
    expect(load([], { ...env, SAGEMAKER_MAX_REQUEST_SIZE: '5000' }).server.maxRequestBytes).toBe(5000);
    expect(only(load([], { SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS: '9' })).predictTimeoutSeconds).toBe(9);
    const workers = { SAGEMAKER_NUM_MODEL_WORKERS: '3', SERVING_MAX_WORKERS: '4' };
    expect(only(load([], { SAGEMAKER_NUM_MODEL_WORKERS: '3' }))).toMatchObject({
      minGroups: 3,
      maxGroups: 3,
    });
    expect(only(load([], workers))).toMatchObject({ minGroups: 3, maxGroups: 4 });
    expect(load([], { SAGEMAKER_HEALTH_CHECK_OVERRIDE: 'true' }).server.unhealthyFailsPing).toBe(true);
  });
});
