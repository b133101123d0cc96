/**
 * Health and reflection: what anybody may ask, so bounded here, as the packages that they come from are not.
 *
 * In      a server, the definitions and names of its services
 * Out     both added to it; what sets their health
 * Limits  reflection: MAX_REFLECTIONS calls at a time, each for REFLECTION_MS; of one whose reader takes nothing no more is read. Health:
 *         who watches a service that there is not is told so, and remembered nowhere
 * Errors  QUEUE_FULL, REQUEST_TIMEOUT
 * Source  grpc/grpc doc/health-checking.md, doc/server-reflection.md
 */
import type {
  Server,
  ServerDuplexStream,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { ServingError } from '../../proto/errors.js';
import { statusOf } from './grpc-calls.js';
import { cutOff } from './received-bytes.js';
import { reflected } from './reflected.js';

const MAX_REFLECTIONS = 64;
const REFLECTION_MS = 60_000;

type Add = (definition: ServiceDefinition, handlers: UntypedServiceImplementation) => void;
type Reflection = ServerDuplexStream<unknown, unknown>;
type Watch = ServerWritableStream<{ service: string }, { status: string }>;

export function addOpenServices(
  add: Add,
  names: readonly string[],
  definitions: readonly PackageDefinition[],
): HealthImplementation {
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, 'SERVING'])));
  const into = (addTo: Add): Server => ({ addService: addTo }) as unknown as Server;
  health.addToServer(
    into((definition, handlers) => {
      const watch = handlers.watch as (call: Watch) => void;
      const known = (call: Watch): void => {
        if (names.includes(call.request.service)) watch(call);
        else call.write({ status: 'SERVICE_UNKNOWN' });
      };
      add(definition, { ...handlers, watch: known as never });
    }) as never,
  );
  const paced = pacedCalls();
  new ReflectionService(reflected(definitions)).addToServer(
    into((definition, handlers) => {
      const all = Object.entries(handlers).map(([name, handler]) => [name, paced(handler as never)]);
      add(definition, Object.fromEntries(all) as UntypedServiceImplementation);
    }),
  );
  return health;
}

/** The package answers whatever it is sent at once, and waits for no reader. */
function pacedCalls(): (handler: (call: Reflection) => void) => (call: Reflection) => void {
  let running = 0;
  return (handler) => (call) => {
    const refuse = (error: ServingError): void => {
      call.emit('error', statusOf(error));
    };
    if (running >= MAX_REFLECTIONS) {
      call.on('error', () => {});
      const sentence = `${running} calls of reflection are running, as many as may be`;
      refuse(new ServingError('QUEUE_FULL', sentence, { retryAfterSeconds: 1 }));
      return;
    }
    running += 1;
    const sentence = `A call of reflection may last ${REFLECTION_MS / 1000} s`;
    const timer = setTimeout(() => {
      if (call.writableNeedDrain) cutOff(call);
      else refuse(new ServingError('REQUEST_TIMEOUT', sentence));
    }, REFLECTION_MS);
    call.once('close', () => {
      running -= 1;
      clearTimeout(timer);
    });
    const write = call.write.bind(call) as (...args: unknown[]) => boolean;
    call.write = ((...args: unknown[]) => {
      const goesOn = write(...args);
      if (!goesOn) {
        call.pause();
        call.once('drain', () => call.resume());
      }
      return goesOn;
    }) as typeof call.write;
    handler(call);
  };
}
