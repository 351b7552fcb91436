/** Numbers in [0, 1) that follow from the seed. https://en.wikipedia.org/wiki/Linear_congruential_generator */
export class SeededRandom {
  private state: bigint;

  constructor(seed: number) {
    this.state = BigInt(seed);
    // Seeds that are near each other begin alike.
    for (let n = 0; n < 3; n++) this.next();
  }

  next(): number {
    this.state = (this.state * 6364136223846793005n + 1442695040888963407n) % 2n ** 64n;
    return Number(this.state >> 32n) / 2 ** 32;
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.next() * items.length)] as T;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const rest = [...items];
    return Array.from(items, () => rest.splice(Math.floor(this.next() * rest.length), 1)[0] as T);
  }
}
