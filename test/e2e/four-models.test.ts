/** Four engines in one server; the whole load is test/long's. */
import { fourModelsSuite } from '../suites/four-models.suite.js';

fourModelsSuite(200);
