/** Flags of `shardserve start`. */
import { describe, expect, it } from 'vitest';
import { parseFlags } from '../../../../server/config/flags.js';

describe('parseFlags', () => {
  it('reads the short and long flags of DJLServing', () => {
    expect(parseFlags(['-f', 'c.properties', '-m', 'a', '-s', 'store'])).toEqual({
      configFile: 'c.properties',
      models: 'a',
      modelStore: 'store',
      serve: false,
      help: false,
      host: null,
      port: null,
    });
    expect(parseFlags(['--model-store=store', '--help'])).toMatchObject({ modelStore: 'store', help: true });
  });

  it('takes several arguments after -m as one list', () => {
    expect(parseFlags(['-m', 'a=/x', 'b=/y', '-s', 'z']).models).toBe('a=/x b=/y');
  });

  it('is empty without arguments', () => {
    expect(parseFlags([])).toEqual({
      configFile: null,
      models: null,
      modelStore: null,
      serve: false,
      help: false,
      host: null,
      port: null,
    });
  });

  it.each([
    ['--tensor-parallel-size', 'OPTION_TENSOR_PARALLEL_DEGREE'],
    ['--num-shard', 'OPTION_TENSOR_PARALLEL_DEGREE'],
    ['--max-model-len', 'OPTION_MAX_MODEL_LEN'],
    ['--max-num-seqs', 'OPTION_MAX_ROLLING_BATCH_SIZE'],
    ['--dtype', 'OPTION_DTYPE'],
    ['--api-key', 'SERVING_API_KEY'],
    ['--model-id', 'OPTION_MODEL_ID'],
  ])('names the variable in the place of another server’s flag: %s', (flag, variable) => {
    expect(() => parseFlags([flag, '2'])).toThrow(
      `${flag} is not a known flag; did you mean ${variable}=… in the environment?`,
    );
  });

  it("takes SageMaker's argument in the first place only", () => {
    expect(parseFlags(['serve', '-m', 'a'])).toMatchObject({ serve: true, models: 'a' });
    expect(() => parseFlags(['-s', 'x', 'serve'])).toThrow(/serve is not expected/);
  });

  it('serves what a person names behind serve, with the usual defaults', () => {
    expect(parseFlags(['serve', './my_multimodal', 'b', '--port', '81'])).toMatchObject({
      ...{ serve: false, models: './my_multimodal b', port: '81' },
    });
  });

  it('reads where to listen', () => {
    expect(parseFlags(['--port', '81', '--host=0.0.0.0'])).toMatchObject({ port: '81', host: '0.0.0.0' });
    expect(() => parseFlags(['--port'])).toThrow(/--port needs a value/);
  });

  it.each([
    [['--model-stor', 'x'], /--model-stor is not a known flag; did you mean --model-store\?/],
    [['-z'], /-z is not a known flag/],
    [['-f'], /-f needs a value/],
    [['-f', '-m', 'x'], /-f needs a value/],
    [['stray'], /stray is not expected/],
    [['-s', 'x', 'stray'], /stray is not expected/],
    [['-i', 'g:a:1'], /Maven/],
  ])('refuses %j', (argv, message) => {
    expect(() => parseFlags(argv)).toThrow(message);
    expect(() => parseFlags(argv)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});
