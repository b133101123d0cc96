/** A thousand planted optima. */
import { plantedOptimumSuite } from '../suites/planted-optimum.suite.js';

plantedOptimumSuite({ seeds: 1000, tpeSeeds: 1000, held: 0.93, none: 0.95 });
