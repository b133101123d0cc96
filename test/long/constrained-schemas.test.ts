import { constrainedSchemas } from '../suites/constrained-schemas.suite.js';

constrainedSchemas(10_000);
