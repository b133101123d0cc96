/** proto/errors.ts: the closed table and its one converter. */
import { describe, expect, it } from 'vitest';
import { ERROR_TABLE, isErrorCode, ServingError } from '../../../proto/errors.js';

describe('ServingError', () => {
  it('takes HTTP status, gRPC status and retryable from the table', () => {
    const error = new ServingError('QUEUE_FULL', 'Worker queue capacity exceeded for model: m');
    expect([error.httpStatus, error.grpcStatus, error.retryable]).toEqual([503, 8, true]);
    expect(error.name).toBe('ServingError');
  });

  it('keeps an operating error as it is and turns anything else into INTERNAL with its cause', () => {
    const known = new ServingError('BAD_REQUEST', 'temperature is -1, must be 0 or more');
    expect(ServingError.from(known)).toBe(known);
    const bug = new TypeError('x is undefined');
    const converted = ServingError.from(bug);
    expect(converted.code).toBe('INTERNAL');
    expect(converted.cause).toBe(bug);
    expect(converted.message).not.toContain('x is undefined');
  });

  it('knows its own codes and no inherited property', () => {
    expect(isErrorCode('QUEUE_FULL')).toBe(true);
    expect(isErrorCode('toString')).toBe(false);
  });

  it('has a possible HTTP status and gRPC status in every row', () => {
    for (const [code, { http, grpc, when }] of Object.entries(ERROR_TABLE)) {
      expect(http, code).toBeGreaterThanOrEqual(400);
      expect(http, code).toBeLessThan(600);
      expect(grpc, code).toBeGreaterThan(0);
      expect(grpc, code).toBeLessThanOrEqual(16);
      expect(when.length, code).toBeGreaterThan(10);
    }
  });
});
