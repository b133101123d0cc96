/**
 * Tests on the software device: skipped, under the reason, where there is none.
 *
 * In      a title, behind which the reason stands
 */
import { describe } from 'vitest';
import { WHY_NO_SOFTWARE_VULKAN } from './software-vulkan.js';

const why = WHY_NO_SOFTWARE_VULKAN === null ? '' : ` (skipped: ${WHY_NO_SOFTWARE_VULKAN})`;

export function describeOnSoftwareVulkan(title: string, tests: () => void): void {
  describe.skipIf(WHY_NO_SOFTWARE_VULKAN !== null)(`${title}${why}`, tests);
}
