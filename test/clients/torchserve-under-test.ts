/**
 * A server as TorchServe's command starts it, for its documented calls: a handler in archives of two versions, a language model.
 *
 * In      a scratch folder; the folder of the language model
 * Out     the server, and its five addresses
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { archiveModel } from '../../server/archive-main.js';
import { ServerProcess } from '../support/server-process.js';

/** Its number is a sum of what words weigh. */
const MOOD = `
import { BaseHandler } from 'shardserve/handler';
const WEIGHTS = { good: 2, bad: -3 };
export class Mood extends BaseHandler {
  async inference(data) {
    const version = this.context.modelVersion;
    const joyOf = (text) => String(text).split(' ').reduce((sum, word) => sum + (WEIGHTS[word] ?? 0), 1);
    return data.map((text) => ({ joy: joyOf(text), version }));
  }
  async describeHandle() {
    return { trainedOn: 'two words', version: this.context.modelVersion };
  }
}`;

export interface TorchServeAddresses {
  inference: string;
  management: string;
  metrics: string;
  grpcInference: string;
  grpcManagement: string;
}

export async function startTorchServe(
  work: string,
  languageModel: string,
): Promise<{ server: ServerProcess; addresses: TorchServeAddresses }> {
  const store = path.join(work, 'model-store');
  mkdirSync(store, { recursive: true });
  const source = path.join(work, 'handler.ts');
  writeFileSync(source, MOOD);
  for (const version of ['1.0', '2.0']) {
    const flags = ['--model-name', 'mood', '--version', version, '--handler', source, '--export-path', work];
    const made = await archiveModel([...flags, '--force']);
    writeFileSync(path.join(store, version === '1.0' ? 'mood.mar' : 'mood-2.0.mar'), readFileSync(made));
  }
  symlinkSync(languageModel, path.join(store, 'teller'));
  const addresses = ['inference', 'management', 'metrics'].map(
    (name, index) => `${name}_address=http://127.0.0.${index + 1}:0\n`,
  );
  const others = 'grpc_inference_port=0\ngrpc_management_port=0\nmetrics_mode=prometheus\n';
  writeFileSync(path.join(work, 'config.properties'), addresses.join('') + others);
  const flags = ['--start', '--foreground', '--ncs', '--disable-token-auth', '--enable-model-api'];
  const models = ['--model-store', store, '--models', 'mood.mar', 'story=teller'];
  const environment = {
    ...{ SERVING_INFERENCE_ADDRESS: '', SERVING_MANAGEMENT_ADDRESS: '', TENSOR_PARALLEL_DEGREE: '2' },
    ...{ TMPDIR: work, SERVING_DOWNLOAD_DIR: path.join(work, 'downloads') },
  };
  const server = new ServerProcess(environment, [], ['torchserve', ...flags, ...models], work);
  await server.ready();
  const told = async (field: 'managementUrl' | 'metricsUrl') =>
    String((await server.line((line) => line[field] !== undefined))[field]);
  const grpc = async (key: string) =>
    String((await server.line(({ msg }) => msg.startsWith(`${key} listens`))).address);
  return {
    server,
    addresses: {
      inference: server.url,
      management: await told('managementUrl'),
      metrics: await told('metricsUrl'),
      grpcInference: await grpc('grpc_inference_address'),
      grpcManagement: await grpc('grpc_management_address'),
    },
  };
}
