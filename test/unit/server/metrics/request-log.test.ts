/** Percentile lines of log_request_metric, and that a name cannot forge a line. */
import { describe, expect, it } from 'vitest';
import { metricLine } from '../../../../server/metrics/metric-line.js';
import { RequestLog } from '../../../../server/metrics/request-log.js';

describe('the log of request metrics', () => {
  it('writes the 50th and 90th percentile when the window is full, then starts anew', () => {
    const lines: string[] = [];
    const log = new RequestLog('toy', 10, (line) => lines.push(line));
    for (let rows = 10; rows >= 1; rows--) log.stepDone(rows);
    expect(lines).toEqual([
      'RollingBatchSize_p50.Count:6|#Model:toy',
      'RollingBatchSize_p90.Count:10|#Model:toy',
    ]);
    for (let step = 0; step < 9; step++) log.stepDone(1);
    expect(lines).toHaveLength(2);
    log.stepDone(1);
    expect(lines.at(-1)).toBe('RollingBatchSize_p90.Count:1|#Model:toy');
  });

  it('tells time, throughput and length of requests', () => {
    const lines: string[] = [];
    const log = new RequestLog('toy', 1, (line) => lines.push(line));
    log.requestDone(20, 500_000);
    expect(lines.filter((line) => line.includes('_p50'))).toEqual([
      'TokenLatency_p50.Microseconds:25000|#Model:toy',
      'TokenThroughput_p50.Count/Second:40|#Model:toy',
      'OutputTokens_p50.Count/Item:20|#Model:toy',
    ]);
  });

  it('leaves out a request without tokens: its latency would be a division by nothing', () => {
    const lines: string[] = [];
    new RequestLog('toy', 1, (line) => lines.push(line)).requestDone(0, 500);
    expect(lines).toEqual([]);
  });

  it('keeps a line one line, whatever a model is called', () => {
    const line = metricLine('LoadModel', 'Microseconds', 5, 'Model', 'a\nServerError.Count:1|#Host:x é');
    expect(line).toBe('LoadModel.Microseconds:5|#Model:a_ServerError.Count:1|#Host:x__');
  });
});
