/** TorchServe's side of a server without its command: models of a management that manages nothing, and no tokens. */
import type { TorchServeConfig } from '../../server/config/torchserve/torchserve-config.js';
import { TorchServeModels } from '../../server/http/dialects/torchserve/torchserve-models.js';
import type { ManagementService } from '../../server/requests/management.js';

export function torchServeModelsOf(
  management: ManagementService,
  config: Partial<TorchServeConfig> = {},
): TorchServeModels {
  const told = { enableModelApi: true, enableMetricsApi: true, firstWorkerPort: 9000, defaultWorkers: 0 };
  return new TorchServeModels(management, {
    config: { ...told, allowedUrls: ['file://.*'], ...config } as TorchServeConfig,
    modelStore: '/models',
    tokens: null,
    manifestOf: async () => ({ modelName: null, modelVersion: null, runtime: null, minWorkers: null }),
    residentBytes: () => 4096,
    onChange: () => {},
  });
}
