/** What operators and other servers' users write: properties, pbtxt, YAML, manifests, files of keys. */
import { chmodSync } from 'node:fs';
import { KeyFile } from '../../../server/access/key-file.js';
import { PbtxtError, parsePbtxt } from '../../../server/config/pbtxt.js';
import { Problems } from '../../../server/config/problems.js';
import { PropertiesSyntaxError, parseProperties } from '../../../server/config/properties-file.js';
import { torchServeModel } from '../../../server/config/torchserve-model.js';
import { tritonModel, tritonVersions } from '../../../server/config/triton-model.js';
import { modelYamlOf } from '../../../server/engines/handlers/model-yaml.js';
import { type FuzzTarget, isOperating } from '../fuzz-target.js';
import { type Json, jsonText, mutatedJson, mutatedText } from '../mutations.js';
import { putFile, scratchFolder } from '../scratch.js';

const PROPERTIES = `# a model
engine=Python
option.model_id=hf\\://org/name
option.tensor_parallel_degree: 4
option.dtype int8
! another comment
batch_size = 8
job_queue_size=\\
  100
gpu.minWorkers=\\u0031
`;
const PROPERTY_WORDS = [
  '\\',
  '\\u',
  '\\u00',
  '\\uD800',
  '=',
  ':',
  '#',
  '!',
  '\r',
  '\f',
  '\t',
  'option.',
  '\u0000',
];

const PBTXT = `name: "bert" # a comment
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_INT64 dims: [ -1, 2 ] }, { name: 'y' dims: -1 } ]
output { name: "z" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_CPU } ]
version_policy: { specific: { versions: [1, 3] } }
model_warmup [ { name: "w" batch_size: 2 count: 3 inputs { key: "x" value: { data_type: TYPE_INT64 dims: [ 7 ] } } } ]
parameters: { key: "a" value: { string_value: "b\\n\\x41\\101" } }
`;
const PBTXT_WORDS = [
  '{',
  '}',
  '[',
  ']',
  '<',
  '>',
  ':',
  ';',
  ',',
  '"',
  "'",
  '\\',
  '0x',
  '1e',
  '-',
  '#',
  'inf',
  'nan',
  '{ a ',
];

const YAML = `minWorkers: 1
maxWorkers: 2
batchSize: 4
maxBatchDelay: 100
handler:
  threshold: 0.5
  names: &names [a, b, c]
  again: *names
  text: |
    lines
    of text
`;
const YAML_WORDS = [
  '&a ',
  '*a',
  '!!js/function ',
  '!!binary ',
  '<<: *a',
  '? ',
  '- ',
  ': ',
  '|',
  '>',
  '%YAML 1.1',
  '---',
  '...',
  '{',
  '[',
  '\t',
];

const MANIFEST: Json = {
  createdOn: '01/01/2024 00:00:00',
  runtime: 'python',
  model: {
    modelName: 'm',
    serializedFile: 'model.onnx',
    handler: 'handler.ts',
    modelVersion: '1.0',
    configFile: 'model-config.yaml',
  },
  archiverVersion: '0.9.0',
};
const KEYS: Json = {
  keys: [
    {
      name: 'a',
      sha256: '0'.repeat(64),
      scopes: ['infer'],
      priority: [0, 5],
      limits: { requests_per_minute: 5 },
      weight: 2,
    },
  ],
};

export const CONFIGURATION_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'properties',
    weight: 15,
    run: (random) => parseProperties(mutatedText(PROPERTIES, random, PROPERTY_WORDS)),
    isExpected: (error) => error instanceof PropertiesSyntaxError,
  },
  {
    name: 'pbtxt',
    weight: 15,
    run: (random) => parsePbtxt(mutatedText(PBTXT, random, PBTXT_WORDS)),
    isExpected: (error) => error instanceof PbtxtError,
  },
  {
    name: 'triton-model',
    weight: 3,
    run(random) {
      const folder = scratchFolder('triton');
      putFile(folder, '1/model.onnx', '');
      putFile(folder, 'config.pbtxt', mutatedText(PBTXT, random, PBTXT_WORDS));
      const problems = new Problems();
      tritonModel(folder, null, 'model', problems);
      tritonVersions(folder);
      problems.throwIfAny();
    },
    isExpected: isOperating,
  },
  {
    name: 'yaml',
    weight: 4,
    run(random) {
      const folder = scratchFolder('yaml');
      putFile(folder, 'model-config.yaml', mutatedText(YAML, random, YAML_WORDS));
      return modelYamlOf(folder);
    },
    // The handler's process tells them as they are.
    isExpected: (error) =>
      error instanceof Error && !(error instanceof TypeError || error instanceof RangeError),
  },
  {
    name: 'mar-manifest',
    weight: 3,
    run(random) {
      const folder = scratchFolder('mar');
      putFile(folder, 'MAR-INF/MANIFEST.json', jsonText(mutatedJson(MANIFEST, random), random));
      putFile(
        folder,
        'model-config.yaml',
        random.next() < 0.5 ? YAML : mutatedText(YAML, random, YAML_WORDS),
      );
      const problems = new Problems();
      torchServeModel(folder, 'model', problems);
      problems.throwIfAny();
    },
    isExpected: isOperating,
  },
  {
    name: 'key-file',
    weight: 2,
    run(random) {
      const folder = scratchFolder('keys');
      const file = putFile(folder, 'keys.json', jsonText(mutatedJson(KEYS, random), random));
      chmodSync(file, 0o600);
      return new KeyFile(file, () => {}).keys();
    },
    isExpected: isOperating,
  },
];
