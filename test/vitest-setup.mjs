/**
 * Runs in every test process: writes its coverage before vitest ends the process, which Node would otherwise only do on an
 * ordinary exit. Does nothing without NODE_V8_COVERAGE.
 */
import { takeCoverage } from 'node:v8';
import { afterAll } from 'vitest';

if (process.env.NODE_V8_COVERAGE) afterAll(() => takeCoverage());
