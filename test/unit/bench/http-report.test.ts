import { describe, expect, it } from 'vitest';
import { type HttpReport, httpJsonLines, renderHttp } from '../../../bench/http/http-report.js';
import { gapsIn } from '../../../bench/http/slices.js';
import { spread } from '../../../bench/spread.js';
import { wholeNumber } from '../../../bench/whole-number.js';

describe('spread', () => {
  it('gives values that were measured', () => {
    const values = Array.from({ length: 40 }, (_, index) => 40 - index);
    expect(spread(values)).toEqual({ min: 1, median: 20, p95: 38, max: 40 });
  });

  it('is one value four times where there is one', () => {
    expect(spread([7])).toEqual({ min: 7, median: 7, p95: 7, max: 7 });
  });
});

describe('wholeNumber', () => {
  it('takes the least', () => {
    expect(wholeNumber('repeat', '1', 1)).toBe(1);
  });

  it.each(['0', '-1', '1.5', '1e3', 'many', '', '9007199254740993'])(
    'refuses %j, naming option, limit and value',
    (given) => {
      expect(() => wholeNumber('repeat', given, 1)).toThrow(
        `--repeat must be a whole number of at least 1, got "${given}"`,
      );
    },
  );
});

describe('gapsIn', () => {
  const span = { fromMs: 100, toMs: 200 };

  it('counts from the second token on after the server was let go', () => {
    expect(gapsIn([[90, 101, 120, 141, 160, 201]], span)).toEqual([21, 19]);
  });

  it('puts the streams together', () => {
    const streams = [
      [110, 130, 150, 170],
      [115, 136, 155, 176],
    ];
    expect(gapsIn(streams, span)).toEqual([20, 20, 19, 21]);
  });

  it('has none where one stream ended or hardly moved', () => {
    const moving = [110, 130, 150, 170];
    expect(gapsIn([moving, moving], span)).not.toBeNull();
    expect(gapsIn([moving, [110, 130, 150]], span)).toBeNull();
  });
});

describe('the report of bench:http', () => {
  const report: HttpReport = {
    model: 'a-shape',
    machine: 'a machine, 2 cores',
    sizes: { prompt: 16, steps: 12 },
    streams: [
      {
        streams: 8,
        engineTokensPerSecond: spread([200]),
        socketTokensPerSecond: spread([190]),
        ratio: spread([0.95]),
        gapMs: spread([42]),
        firstTokenMs: 400,
        clientCpu: 0.01,
        serverCpu: 0.04,
        cleanPairs: 1,
        pairs: 1,
      },
    ],
    firstToken: {
      promptTokens: 128,
      enginePrefillMs: spread([360]),
      socketMs: spread([363]),
      overMs: spread([3]),
      cleanPairs: 1,
      pairs: 1,
    },
  };

  it('is a line of JSON a measurement, each with the model and the machine', () => {
    const lines = httpJsonLines(report)
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatchObject({
      model: 'a-shape',
      machine: 'a machine, 2 cores',
      streams: 8,
      ratio: { median: 0.95, p95: 0.95 },
    });
    expect(lines[1]).toMatchObject({ model: 'a-shape', promptTokens: 128, overMs: { median: 3 } });
  });

  it('has a line less without the first token', () => {
    expect(httpJsonLines({ ...report, firstToken: null }).split('\n')).toHaveLength(1);
  });

  it('names ratio and processor shares in the table', () => {
    const table = renderHttp(report);
    expect(table).toContain('ratio 0.950 (0.950–0.950)');
    expect(table).toContain('clients 1.0 %, server 4.0 %');
  });
});
