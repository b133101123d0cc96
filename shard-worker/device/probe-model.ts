/**
 * The smallest ONNX graph, y = −x over floats: a session of it tells whether a provider works, before any weights are read.
 *
 * Source  written by partitioner/graph/onnx-writer.ts: input x [n], a Neg node, output y [n]
 */
export const PROBE_MODEL: Uint8Array = Buffer.from(
  'CAoSCnNoYXJkc2VydmUaATE6QQoUCgF4EgF5GgVOZWdfMCIDTmVnOgASBXByb2JlWhAKAXgSCwoJCAESBQoDEgFuYhAKAXkSCwoJCAESBQoDEgFuQgQKABAYQhEKDWNvbS5taWNyb3NvZnQQAQ==',
  'base64',
);
