/** Reverse-mode differentiation as a transform from graph to graph. */
import { constant } from "../core/op.ts";
import { ShapeError, show, size } from "../core/shape.ts";
import { ancestors, makeNode, type Node, type Region, type Tensor, withRegion } from "../core/tensor.ts";
import { add } from "../ops/arithmetic.ts";
import { expand } from "../ops/movement.ts";

/**
 * d loss / d wrt as graph nodes, one per tensor of `wrt` (zeros where the loss does not depend on it).
 * Only nodes between `wrt` and the loss are visited. What a `checkpoint` region doesn't keep is made again just before
 * the first gradient that reads it.
 * @param loss a scalar, or any tensor if `seed` (its cotangent, of the same shape) is given
 */
export function grad(loss: Tensor, wrt: readonly Tensor[], seed?: Tensor): Tensor[] {
  if (!seed && size(loss.shape) !== 1)
    throw new ShapeError(`grad: needed a scalar loss or a seed, found a loss of shape ${show(loss.shape)}. [E_SHAPE]`);
  const nodes = ancestors([loss]);
  const needed = dependents(nodes, wrt);
  const cotangents = new Map<Tensor, Tensor>([[loss, seed ?? expand(constant(1), loss.shape)]]);
  const remade = new Map<Tensor, Tensor>();

  for (const node of nodes.reverse()) {
    if (!needed.has(node)) continue;
    const dys = node.outputs.map((y) => cotangents.get(y));
    if (dys.every((dy) => dy === undefined)) continue;
    if (!node.inputs.some((x) => needed.has(x.node) || wrt.includes(x))) continue;
    if (!node.op.vjp) throw new Error(`${node.op.name} has no gradient`);
    const now = primals(node, remade);
    const dxs = withRegion(undefined, () => node.op.vjp!({ attrs: node.attrs, ...now }, dys));
    node.inputs.forEach((x, i) => {
      const dx = dxs[i];
      if (!dx || !(needed.has(x.node) || wrt.includes(x))) return;
      const before = cotangents.get(x);
      cotangents.set(x, before ? add(before, dx) : dx);
    });
  }
  return wrt.map((x) => cotangents.get(x) ?? expand(constant(0), x.shape));
}

/** Nodes of which some output depends on `wrt` (or is one of them). */
function dependents(nodes: readonly Node[], wrt: readonly Tensor[]): Set<Node> {
  const roots = new Set(wrt.map((x) => x.node));
  const found = new Set<Node>();
  for (const n of nodes) if (roots.has(n) || n.inputs.some((x) => found.has(x.node))) found.add(n);
  return found;
}

/** The node's inputs and outputs as the backward pass sees them: the originals, or made again. */
function primals(node: Node, remade: Map<Tensor, Tensor>): Pick<Node, "inputs" | "outputs"> {
  const { region } = node;
  if (!region) return node;
  const now = (t: Tensor): Tensor => again(t, region, remade);
  return { inputs: node.inputs.map(now), outputs: node.outputs.map(now) };
}

/** The tensor made again from what is kept of its region, once for all who ask; one from outside is as it is. */
function again(t: Tensor, region: Region, remade: Map<Tensor, Tensor>): Tensor {
  const { node } = t;
  if (node.region !== region || isKept(node, region)) return t;
  if (!remade.has(t)) {
    const inputs = node.inputs.map((x) => again(x, region, remade));
    const copy = withRegion(undefined, () => makeNode(node.op, inputs, node.attrs, node.outputs));
    for (const [i, y] of node.outputs.entries()) remade.set(y, copy.outputs[i]!);
  }
  return remade.get(t)!;
}

function isKept(node: Node, { upTo }: Region): boolean {
  const bytes = 4 * node.outputs.reduce((n, y) => n + size(y.shape), 0);
  return node.inputs.length === 0 || (node.op.flops?.(node) ?? 0) > upTo * bytes;
}

/**
 * Runs `build`; what it makes is not kept for the backward pass but computed again there, from the tensors that
 * `build` took from outside. Nested calls count as one region, the outermost.
 * @param upTo FLOPs per byte of its results up to which an op is computed again; results of dearer ones are kept. 0 keeps
 * all products, convolutions and attention; the default keeps nothing
 */
export function checkpoint<T>(build: () => T, upTo: number = Number.POSITIVE_INFINITY): T {
  return withRegion({ upTo }, build);
}
