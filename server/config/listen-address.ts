/** Where a listener listens. Plain data. */
export interface ListenAddress {
  /** Host and port, or a Unix socket. */
  kind: 'tcp' | 'unix';
  host: string;
  port: number;
  path: string;
  /** https://; absent: http://. */
  tls?: true;
}
