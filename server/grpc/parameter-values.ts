/** Parameters of the protocol's messages as plain values. */
import type { InferParameter, Parameters } from './oip-messages.js';

export const valuesOf = (parameters: Parameters): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(parameters).map(([name, parameter]) => [name, parameterValue(parameter)]),
  );

function parameterValue(parameter: InferParameter): unknown {
  const field = parameter.parameter_choice;
  if (field === undefined) return null;
  const value = parameter[field];
  return field === 'int64_param' || field === 'uint64_param' ? Number(value) : value;
}
