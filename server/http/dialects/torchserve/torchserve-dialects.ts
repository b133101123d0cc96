/** What a server speaks that TorchServe's command started: its own API, and those that TorchServe's clients do not take for it. */
import type { Dialect } from '../../dialect.js';
import { anthropicDialect } from '../anthropic/messages-routes.js';
import { explanationsIn } from '../explanations/explanation-routes.js';
import { healthDialect } from '../health/health-routes.js';
import { metricsDialect } from '../metrics/metrics-routes.js';
import { oipDialect } from '../oip/oip-routes.js';
import { openAiDialect } from '../openai/openai-routes.js';
import { referenceDialect } from '../reference/reference-routes.js';
import { workflowsIn } from '../workflows/workflow-routes.js';
import { torchServeInference } from './inference-routes.js';
import { torchServeManagement } from './management-routes.js';
import { torchServeError } from './torchserve-errors.js';
import type { TorchServeModels } from './torchserve-models.js';
import { torchServeWorkflows } from './workflow-routes.js';

export function torchServeDialects(models: TorchServeModels): Dialect[] {
  const { enableMetricsApi } = models.parts.config;
  const spoken: Dialect[] = [
    healthDialect,
    openAiDialect,
    anthropicDialect,
    oipDialect,
    explanationsIn(torchServeError),
    workflowsIn(torchServeError),
    torchServeInference(models),
    torchServeManagement(models),
    torchServeWorkflows(models),
    ...(enableMetricsApi ? [metricsDialect] : []),
  ];
  return [...spoken, referenceDialect(spoken)];
}
