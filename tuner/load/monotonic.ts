/** CLOCK_MONOTONIC, the same in all processes of a host: milliseconds. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
