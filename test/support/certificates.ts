/** Certificates for tests, made when they are needed: an authority, and what it signs. */
import { generateKeyPairSync } from 'node:crypto';
import forge from 'node-forge';

const DAY_MS = 86_400_000;

export interface TestCertificate {
  name: string;
  /** PEM. */
  certificate: string;
  key: string;
}

/** @param by null: it signs itself, and may sign others */
export function makeCertificate(name: string, by: TestCertificate | null = null, days = 2): TestCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const { pki } = forge;
  const made = pki.createCertificate();
  made.publicKey = pki.publicKeyFromPem(publicKey);
  made.serialNumber = `01${Math.floor(Math.random() * 2 ** 40).toString(16)}`;
  made.validity.notBefore = new Date(Date.now() - 10 * DAY_MS);
  made.validity.notAfter = new Date(Date.now() + days * DAY_MS);
  const nameOf = (value: string) => [{ shortName: 'CN', value }];
  made.setSubject(nameOf(name));
  made.setIssuer(nameOf(by?.name ?? name));
  made.setExtensions([
    { name: 'basicConstraints', cA: by === null },
    {
      name: 'subjectAltName',
      altNames: [
        { type: 2, value: 'localhost' },
        { type: 7, ip: '127.0.0.1' },
      ],
    },
  ]);
  made.sign(pki.privateKeyFromPem(by?.key ?? privateKey), forge.md.sha256.create());
  return { name, certificate: pki.certificateToPem(made), key: privateKey };
}

/** PKCS#12. */
export function keystoreOf({ certificate, key }: TestCertificate, password: string): Buffer {
  const { asn1, pki, pkcs12 } = forge;
  const made = pkcs12.toPkcs12Asn1(
    pki.privateKeyFromPem(key),
    pki.certificateFromPem(certificate),
    password,
    {
      algorithm: 'aes256',
    },
  );
  return Buffer.from(asn1.toDer(made).getBytes(), 'binary');
}
