import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { Namespace } from './namespace.ts';
import { waitFor } from './wait.ts';

type Message = {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
};

const switches = [
  '--headless=new',
  // Tests run as root, who may not have Chromium's own sandbox.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-extensions',
  '--no-first-run',
  '--no-default-browser-check',
  '--force-device-scale-factor=1',
  '--remote-debugging-pipe',
];

/** Debian's Chromium without a screen, in a namespace, spoken with by the DevTools protocol over two pipes. */
export class Browser {
  private readonly child: ChildProcess;
  private readonly input: Writable;
  private readonly waiting = new Map<number, (message: Message) => void>();
  private readonly pages = new Map<string, BrowserPage>();
  private words = '';
  private last = 0;

  private constructor(child: ChildProcess) {
    this.child = child;
    this.input = child.stdio[3] as Writable;
    this.input.on('error', () => {});
    child.stderr?.on('data', (chunk: Buffer) => {
      this.words = `${this.words}${chunk}`.slice(-4000);
    });
    let text = '';
    (child.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
      const messages = `${text}${chunk}`.split('\0');
      text = messages.pop()!;
      for (const message of messages) this.heard(JSON.parse(message) as Message);
    });
  }

  static async start(namespace: Namespace): Promise<Browser> {
    const profile = mkdtempSync(join(namespace.directory, 'browser-'));
    const child = namespace.spawn('chromium', [...switches, `--user-data-dir=${profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, HOME: profile },
    });
    await once(child, 'spawn');
    return new Browser(child);
  }

  async open(url: string): Promise<BrowserPage> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new BrowserPage((method, params) => this.send(method, params, sessionId as string));
    this.pages.set(sessionId as string, page);
    for (const domain of ['Page', 'Runtime', 'Log']) await page.send(`${domain}.enable`);
    await page.send('Page.navigate', { url });
    return page;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.send('Browser.close').catch(() => {});
    const late = setTimeout(() => this.child.kill('SIGKILL'), 3000);
    await exited;
    clearTimeout(late);
  }

  private send(method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.last;
    this.input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => {
      const gone = (): void => reject(new Error(`Chromium has ended: ${this.words}`));
      this.child.once('exit', gone);
      this.waiting.set(id, ({ result, error }) => {
        this.child.off('exit', gone);
        if (error === undefined) resolve(result ?? {});
        else reject(new Error(`${method}: ${error.message}`));
      });
    });
  }

  private heard(message: Message): void {
    const { id, sessionId, method, params } = message;
    if (id === undefined) {
      this.pages.get(sessionId ?? '')?.heard(method ?? '', params ?? {});
      return;
    }
    this.waiting.get(id)?.(message);
    this.waiting.delete(id);
  }
}

const keys: Readonly<Record<string, number>> = {
  Tab: 9,
  Enter: 13,
  ' ': 32,
  ArrowLeft: 37,
  ArrowUp: 38,
  ArrowRight: 39,
  ArrowDown: 40,
};

/** A page as a person has it: looked at, clicked and typed into. */
export class BrowserPage {
  readonly send: (method: string, params?: object) => Promise<Record<string, unknown>>;
  /** Errors of scripts, what the content security policy has refused, and requests that failed. */
  readonly complaints: string[] = [];

  constructor(send: BrowserPage['send']) {
    this.send = send;
  }

  heard(method: string, params: Record<string, unknown>): void {
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(params.exceptionDetails));
    const entry = params.entry as { level: string; text: string; source: string } | undefined;
    if (method === 'Log.entryAdded' && entry?.level === 'error')
      this.complaints.push(`${entry.source}: ${entry.text}`);
  }

  /** The value of an expression in the page. */
  async evaluate<T = unknown>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  }

  /** What is written in the first element that fits; empty where there is none. */
  text(selector: string): Promise<string> {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`);
  }

  /** Waits until an element says so. @returns what it says */
  async waitForText(selector: string, wanted: RegExp, timeoutMs = 60_000): Promise<string> {
    let text = '';
    const said = async (): Promise<string | undefined> => {
      text = await this.text(selector);
      return wanted.test(text) ? text : undefined;
    };
    const explain = (): string => `it says: ${text}\n${this.complaints.join('\n')}`;
    return await waitFor(`${selector} to say ${wanted}`, said, { timeoutMs, explain });
  }

  async click(selector: string): Promise<void> {
    const place = await this.evaluate<{ x: number; y: number } | null>(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element?.scrollIntoView({ block: 'center', behavior: 'instant' });
      const box = element?.getBoundingClientRect();
      return box && { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    })()`);
    if (!place) throw new Error(`there is no ${selector}`);
    for (const type of ['mousePressed', 'mouseReleased'])
      await this.send('Input.dispatchMouseEvent', { type, ...place, button: 'left', clickCount: 1 });
  }

  /** Types into what has the focus. */
  async type(text: string): Promise<void> {
    await this.send('Input.insertText', { text });
  }

  async press(key: string): Promise<void> {
    const code = { key, windowsVirtualKeyCode: keys[key], ...(key === 'Enter' ? { text: '\r' } : {}) };
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...code });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...code });
  }

  async screen(width: number, height: number, scheme: 'light' | 'dark'): Promise<void> {
    await this.send('Emulation.setDeviceMetricsOverride', {
      width,
      height,
      deviceScaleFactor: 1,
      mobile: width < 500,
    });
    await this.send('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    });
  }

  /** The whole page as a picture. */
  async picture(file: string): Promise<void> {
    const { data } = await this.send('Page.captureScreenshot', {
      format: 'png',
      captureBeyondViewport: true,
    });
    writeFileSync(file, Buffer.from(data as string, 'base64'));
  }
}
