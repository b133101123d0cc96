/** Four engines in one server, 2,000 mixed requests. */
import { fourModelsSuite } from '../suites/four-models.suite.js';

fourModelsSuite(2000);
