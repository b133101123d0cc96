/**
 * The messages of proto/open_inference.proto as plain data, as @grpc/proto-loader gives them with PROTO_OPTIONS: 64-bit numbers as text,
 * every field there.
 */
export interface InferParameter {
  parameter_choice?: 'bool_param' | 'int64_param' | 'string_param' | 'double_param' | 'uint64_param';
  bool_param?: boolean;
  int64_param?: string;
  string_param?: string;
  double_param?: number;
  uint64_param?: string;
}

export type Parameters = Readonly<Record<string, InferParameter>>;

export interface TensorContents {
  bool_contents: readonly boolean[];
  int_contents: readonly number[];
  int64_contents: readonly string[];
  uint_contents: readonly number[];
  uint64_contents: readonly string[];
  fp32_contents: readonly number[];
  fp64_contents: readonly number[];
  bytes_contents: readonly Buffer[];
}

export interface TensorMessage {
  name: string;
  datatype: string;
  shape: readonly string[];
  parameters: Parameters;
  contents: TensorContents | null;
}

export interface InferRequestMessage {
  model_name: string;
  model_version: string;
  id: string;
  parameters: Parameters;
  inputs: readonly TensorMessage[];
  outputs: readonly { name: string }[];
  raw_input_contents: readonly Buffer[];
}

export interface InferResponseMessage {
  model_name: string;
  model_version: string;
  id: string;
  parameters?: Record<string, InferParameter>;
  outputs: { name: string; datatype: string; shape: readonly (number | string)[] }[];
  raw_output_contents: Uint8Array[];
}

export const PROTO_OPTIONS = {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
} as const;
