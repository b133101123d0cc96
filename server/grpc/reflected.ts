/**
 * What reflection tells of services, so that strict readers of it (grpcurl, in Go) can use it: the packages that make descriptors of .proto
 * files name the entries of maps otherwise than protoc does, and no file says which others it needs.
 *
 * In      definitions as @grpc/proto-loader gives them
 * Out     the same, with descriptors as protoc's
 * Source  descriptor.proto: map_entry; protobufjs's ext/descriptor, whose reading and writing it is
 */
import type { PackageDefinition } from '@grpc/proto-loader';
import descriptor from 'protobufjs/ext/descriptor/index.js';

interface Field {
  name: string;
  jsonName?: string;
  typeName?: string;
}

interface Message {
  name: string;
  field?: Field[];
  nestedType?: Message[];
  options?: { mapEntry?: boolean } | null;
}

interface File {
  name: string;
  package?: string;
  dependency?: string[];
  messageType?: Message[];
  service?: { method?: { inputType?: string; outputType?: string }[] }[];
}

interface Codec {
  decode(bytes: Uint8Array): File;
  encode(file: File): { finish(): Uint8Array };
}

const codec = (descriptor as unknown as { FileDescriptorProto: Codec }).FileDescriptorProto;

export function reflected(definitions: readonly PackageDefinition[]): PackageDefinition {
  // All entries of a definition have the same list.
  const told = new Map<readonly Buffer[], Buffer[]>();
  const asProtocs = (files: readonly Buffer[]): Buffer[] => {
    const made = told.get(files) ?? filesAsProtocs(files);
    told.set(files, made);
    return made;
  };
  return Object.fromEntries(
    definitions
      .flatMap((definition) => Object.entries(definition))
      .map(([name, one]) => {
        const { fileDescriptorProtos: files } = one as { fileDescriptorProtos?: Buffer[] };
        return [name, files === undefined ? one : { ...one, fileDescriptorProtos: asProtocs(files) }];
      }),
  ) as PackageDefinition;
}

function filesAsProtocs(encoded: readonly Buffer[]): Buffer[] {
  const files = encoded.map((bytes) => codec.decode(bytes));
  for (const file of files) {
    for (const message of file.messageType ?? []) nameAsProtoc(message);
    const wanted = typesOf(file);
    file.dependency = files
      .filter((other) => other !== file && other.package !== file.package)
      .filter(({ package: of = '' }) => wanted.some((type) => type.replace(/^\./, '').startsWith(`${of}.`)))
      .map(({ name }) => name);
  }
  return files.map((file) => Buffer.from(codec.encode(file).finish()));
}

/** protoc's: JSON's names in camel case, a map's entry is called after its field. */
function nameAsProtoc(message: Message): void {
  for (const field of message.field ?? [])
    field.jsonName = field.name.replaceAll(/_(.)/g, (_, first: string) => first.toUpperCase());
  for (const nested of message.nestedType ?? []) {
    nameAsProtoc(nested);
    const field = (message.field ?? []).find(({ typeName }) => typeName === nested.name);
    if (nested.options?.mapEntry !== true || field === undefined) continue;
    nested.name = `${field.name.replaceAll(/(?:^|_)(.)/g, (_, first: string) => first.toUpperCase())}Entry`;
    field.typeName = nested.name;
  }
}

function typesOf({ messageType = [], service = [] }: File): string[] {
  const ofMessage = ({ field = [], nestedType = [] }: Message): string[] => [
    ...field.flatMap(({ typeName }) => typeName ?? []),
    ...nestedType.flatMap(ofMessage),
  ];
  const ofCalls = service.flatMap(({ method = [] }) =>
    method.flatMap(({ inputType, outputType }) => [inputType ?? '', outputType ?? '']),
  );
  return [...messageType.flatMap(ofMessage), ...ofCalls];
}
