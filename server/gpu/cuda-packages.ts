/**
 * The packages of a Python index that hold CUDA's libraries: ONNX Runtime built for CUDA, and NVIDIA's own (NCCL among them, without which
 * sums over ranks go by way of the host).
 *
 * Source  metadata of onnxruntime-gpu 1.30.0 (what it asks for), `ldd` of its CUDA provider; the SHA-256 of each file as it was fetched
 */
import { CUDA_FILES, NCCL_LIBRARY } from '../../proto/cuda-libraries.js';

export interface CudaPackage {
  name: string;
  version: string;
  /** The wheel's. */
  file: string;
  sha256: string;
  bytes: number;
  /** Names of the libraries to be taken from it, wherever in it they lie. */
  libraries: readonly string[];
}

const nvidia = (
  name: string,
  version: string,
  tags: string,
  sha256: string,
  bytes: number,
  libraries: readonly string[],
): CudaPackage => ({
  ...{ name, version, sha256, bytes, libraries },
  file: `${name.replaceAll('-', '_')}-${version}-py3-none-${tags}.whl`,
});

export const CUDA_PACKAGES: readonly CudaPackage[] = [
  {
    name: 'onnxruntime-gpu',
    version: '1.30.0',
    file: 'onnxruntime_gpu-1.30.0-cp311-cp311-manylinux_2_28_x86_64.whl',
    sha256: '4fbf0c5d7b5fb99266c2e8a802e3e64af68bdc383e0f3c7349b985f1087eedaa',
    bytes: 246_658_419,
    libraries: CUDA_FILES.filter((name) => name.startsWith('libonnxruntime')),
  },
  nvidia(
    'nvidia-cuda-runtime',
    '13.5.37',
    'manylinux2014_x86_64.manylinux_2_17_x86_64',
    'df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d',
    2_504_024,
    ['libcudart.so.13'],
  ),
  nvidia(
    'nvidia-cublas',
    '13.10.0.20',
    'manylinux1_x86_64.manylinux_2_5_x86_64',
    'dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84',
    444_289_903,
    ['libcublasLt.so.13', 'libcublas.so.13'],
  ),
  nvidia(
    'nvidia-curand',
    '10.4.5.25',
    'manylinux_2_27_x86_64',
    '22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529',
    77_113_015,
    ['libcurand.so.10'],
  ),
  nvidia(
    'nvidia-nccl-cu13',
    '2.32.3',
    'manylinux_2_27_x86_64',
    '1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3',
    305_100_071,
    [NCCL_LIBRARY],
  ),
];
