/** The access log's line, and what a client cannot do to it. */
import { describe, expect, it } from 'vitest';
import { accessLine } from '../../../../server/logging/access-line.js';

const AT = new Date(2024, 4, 1, 9, 5, 3);
const RESPONSE = {
  ip: '10.0.0.1',
  method: 'POST',
  uri: '/predictions/m?a=b',
  httpVersion: '1.1',
  status: 200,
  durationMs: 34.6,
};

describe('a line of the access log', () => {
  it('has the fields of DJLServing in their order', () => {
    expect(accessLine(RESPONSE, AT)).toBe(
      '2024-05-01 09:05:03 10.0.0.1 "POST /predictions/m?a=b HTTP/1.1" 200 35',
    );
  });

  it('stays one line with its own quotes, whatever the path holds', () => {
    const uri = '/a" 200 1\r\n2024 "x\u00e9';
    expect(accessLine({ ...RESPONSE, uri }, AT)).toContain(
      '"POST /a%22%20200%201%0D%0A2024%20%22x%C3%A9 HTTP/1.1"',
    );
  });

  it('cuts a path that is very long', () => {
    expect(accessLine({ ...RESPONSE, uri: `/${'x'.repeat(20_000)}` }, AT).length).toBeLessThan(2200);
  });
});
