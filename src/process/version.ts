/** Replaced at build time with the version in package.json. */
declare const TWILL_VERSION: string | undefined;

export const version: string = typeof TWILL_VERSION === 'undefined' ? '0.0.0-source' : TWILL_VERSION;
