/** The fuzz suite of damaged checkpoints, for longer: every run draws other cases (TEST_SEED repeats one). */
import { fuzzCheckpoints } from '../suites/checkpoint-fuzz.suite.js';

fuzzCheckpoints(300);
