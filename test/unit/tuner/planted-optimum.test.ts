/** A hundred planted optima; test/long takes a thousand, and closer bounds. */
import { plantedOptimumSuite } from '../../suites/planted-optimum.suite.js';

plantedOptimumSuite({ seeds: 100, tpeSeeds: 40, held: 0.9, none: 0.9 });
