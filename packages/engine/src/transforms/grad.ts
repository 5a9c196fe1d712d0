/** Reverse-mode differentiation as a transform from graph to graph. */
import { constant } from "../core/op.ts";
import { ShapeError, show, size } from "../core/shape.ts";
import { ancestors, makeNode, type Node, type Region, type Tensor, withRegion } from "../core/tensor.ts";
import { add } from "../ops/arithmetic.ts";
import { expand } from "../ops/movement.ts";

/**
 * d loss / d wrt as graph nodes, one per tensor of `wrt` (zeros where the loss does not depend on it).
 * Only nodes between `wrt` and the loss are visited. Nodes of a `checkpoint` region are made again just before the
 * first of their gradients is needed.
 * @param loss a scalar, or any tensor if `seed` (its cotangent, of the same shape) is given
 */
export function grad(loss: Tensor, wrt: readonly Tensor[], seed?: Tensor): Tensor[] {
  if (!seed && size(loss.shape) !== 1)
    throw new ShapeError(`grad: needed a scalar loss or a seed, found a loss of shape ${show(loss.shape)}. [E_SHAPE]`);
  const nodes = ancestors([loss]);
  const needed = dependents(nodes, wrt);
  const cotangents = new Map<Tensor, Tensor>([[loss, seed ?? expand(constant(1), loss.shape)]]);
  const remade = new Map<Region, Map<Tensor, Tensor>>();

  for (const node of nodes.reverse()) {
    if (!needed.has(node)) continue;
    const dys = node.outputs.map((y) => cotangents.get(y));
    if (dys.every((dy) => dy === undefined)) continue;
    if (!node.inputs.some((x) => needed.has(x.node) || wrt.includes(x))) continue;
    if (!node.op.vjp) throw new Error(`${node.op.name} has no gradient`);
    const now = primals(node, nodes, remade);
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

/** The node's inputs and outputs as the backward pass sees them: the originals, or those of the remade region. */
function primals(
  node: Node,
  nodes: readonly Node[],
  remade: Map<Region, Map<Tensor, Tensor>>,
): Pick<Node, "inputs" | "outputs"> {
  if (!node.region) return node;
  let copies = remade.get(node.region);
  if (!copies) {
    copies = remake(node.region, new Set(nodes));
    remade.set(node.region, copies);
  }
  const now = (t: Tensor): Tensor => copies.get(t) ?? t;
  return { inputs: node.inputs.map(now), outputs: node.outputs.map(now) };
}

function remake(region: Region, wanted: ReadonlySet<Node>): Map<Tensor, Tensor> {
  const copies = new Map<Tensor, Tensor>();
  for (const node of region.nodes) {
    if (!wanted.has(node)) continue;
    const inputs = node.inputs.map((t) => copies.get(t) ?? t);
    const copy = withRegion(undefined, () => makeNode(node.op, inputs, node.attrs, node.outputs));
    for (const [i, t] of node.outputs.entries()) copies.set(t, copy.outputs[i]!);
  }
  return copies;
}

/**
 * Runs `build`; what it makes is not kept for the backward pass but computed again there, from the tensors that
 * `build` took from outside. Nested calls count as one region, the outermost.
 */
export function checkpoint<T>(build: () => T): T {
  return withRegion({ nodes: [] }, build);
}
