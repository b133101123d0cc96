/** Every dialect that the server speaks. A new one is a folder here and a line in this list. */
import type { Dialect } from '../dialect.js';
import { anthropicDialect } from './anthropic/messages-routes.js';
import { djlDialect } from './djl/djl-routes.js';
import { explanationDialect } from './explanations/explanation-routes.js';
import { healthDialect, pingDialect } from './health/health-routes.js';
import { managementDialect } from './management/management-routes.js';
import { metricsDialect } from './metrics/metrics-routes.js';
import { oipDialect } from './oip/oip-routes.js';
import { oipRepositoryDialect } from './oip/repository-routes.js';
import { openAiDialect } from './openai/openai-routes.js';
import { referenceDialect } from './reference/reference-routes.js';
import { tgiDialect } from './tgi/tgi-routes.js';
import { workflowDialect } from './workflows/workflow-routes.js';

const SPOKEN: readonly Dialect[] = [
  healthDialect,
  pingDialect,
  djlDialect,
  workflowDialect,
  explanationDialect,
  openAiDialect,
  anthropicDialect,
  oipDialect,
  oipRepositoryDialect,
  tgiDialect,
  managementDialect,
  metricsDialect,
];

export const ALL_DIALECTS: readonly Dialect[] = [...SPOKEN, referenceDialect(SPOKEN)];
