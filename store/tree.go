package store

import (
	"slices"
	"strings"
)

// width is how many entries a node holds at most: wide enough that 150,000 items are
// three levels, narrow enough that copying a path on each write stays below 1 us.
const width = 64

// node is a persistent B+ tree: never changed once published, so a root is a snapshot.
// A leaf has items, an inner node has kids. nil is the empty tree.
type node struct {
	first string // the smallest path below
	count int    // of items below
	items []*Item
	kids  []*node
}

func leaf(items []*Item) *node {
	return &node{first: items[0].path, count: len(items), items: items}
}

func inner(kids []*node) *node {
	n := &node{first: kids[0].first, kids: kids}
	for _, k := range kids {
		n.count += k.count
	}
	return n
}

// grow builds a tree of items that are in order.
func grow(items []*Item) *node {
	if len(items) == 0 {
		return nil
	}
	var level []*node
	for part := range slices.Chunk(items, width*3/4) {
		level = append(level, leaf(slices.Clone(part)))
	}
	for len(level) > 1 {
		var up []*node
		for part := range slices.Chunk(level, width*3/4) {
			up = append(up, inner(slices.Clone(part)))
		}
		level = up
	}
	return level[0]
}

func (n *node) len() int {
	if n == nil {
		return 0
	}
	return n.count
}

// search gives where path is, or would be, in a leaf.
func (n *node) search(path string) (int, bool) {
	return slices.BinarySearchFunc(n.items, path, func(i *Item, p string) int { return strings.Compare(i.path, p) })
}

// kid gives the child that holds path, if any does.
func (n *node) kid(path string) int {
	i, found := slices.BinarySearchFunc(n.kids, path, func(k *node, p string) int { return strings.Compare(k.first, p) })
	if found || i == 0 {
		return i
	}
	return i - 1
}

func (n *node) get(path string) *Item {
	if n == nil {
		return nil
	}
	for n.kids != nil {
		n = n.kids[n.kid(path)]
	}
	if i, ok := n.search(path); ok {
		return n.items[i]
	}
	return nil
}

// with gives the tree that has item as well, and the item it replaces.
func (n *node) with(item *Item) (*node, *Item) {
	if n == nil {
		return leaf([]*Item{item}), nil
	}
	a, b, old := n.put(item)
	if b != nil {
		a = inner([]*node{a, b})
	}
	return a, old
}

func (n *node) put(item *Item) (a, b *node, old *Item) {
	if n.kids == nil {
		i, found := n.search(item.path)
		if found {
			items := slices.Clone(n.items)
			old, items[i] = items[i], item
			return leaf(items), nil, old
		}
		items := make([]*Item, 0, len(n.items)+1)
		items = append(append(append(items, n.items[:i]...), item), n.items[i:]...)
		if len(items) <= width {
			return leaf(items), nil, nil
		}
		half := cut(len(items), i)
		return leaf(slices.Clone(items[:half])), leaf(slices.Clone(items[half:])), nil
	}
	at := n.kid(item.path)
	x, y, old := n.kids[at].put(item)
	kids := make([]*node, 0, len(n.kids)+1)
	kids = append(append(kids, n.kids[:at]...), x)
	if y != nil {
		kids = append(kids, y)
	}
	kids = append(kids, n.kids[at+1:]...)
	if len(kids) <= width {
		return inner(kids), nil, old
	}
	half := cut(len(kids), at)
	return inner(slices.Clone(kids[:half])), inner(slices.Clone(kids[half:])), old
}

// cut splits in the middle, or near the end where entries arrive in order.
func cut(n, at int) int {
	if at >= n-2 {
		return n * 7 / 8
	}
	return n / 2
}

// without gives the tree that lacks path, and the item that was there.
func (n *node) without(path string) (*node, *Item) {
	if n == nil {
		return nil, nil
	}
	out, old := n.cutOut(path)
	for out != nil && len(out.kids) == 1 {
		out = out.kids[0]
	}
	return out, old
}

func (n *node) cutOut(path string) (*node, *Item) {
	if n.kids == nil {
		i, found := n.search(path)
		if !found {
			return n, nil
		}
		if len(n.items) == 1 {
			return nil, n.items[0]
		}
		items := append(append(make([]*Item, 0, len(n.items)-1), n.items[:i]...), n.items[i+1:]...)
		return leaf(items), n.items[i]
	}
	at := n.kid(path)
	kid, old := n.kids[at].cutOut(path)
	if old == nil {
		return n, nil
	}
	kids := slices.Clone(n.kids)
	if kid == nil {
		kids = slices.Delete(kids, at, at+1)
	} else {
		kids[at] = kid
		kids = merge(kids, at)
	}
	if len(kids) == 0 {
		return nil, old
	}
	return inner(kids), old
}

// merge joins a child that became small with a neighbour that has room for it.
func merge(kids []*node, at int) []*node {
	if kids[at].width() > width/4 || len(kids) == 1 {
		return kids
	}
	l := max(at-1, 0)
	a, b := kids[l], kids[l+1]
	if a.width()+b.width() > width/2 {
		return kids
	}
	if a.kids == nil {
		kids[l] = leaf(slices.Concat(a.items, b.items))
	} else {
		kids[l] = inner(slices.Concat(a.kids, b.kids))
	}
	return slices.Delete(kids, l+1, l+2)
}

func (n *node) width() int { return len(n.items) + len(n.kids) }

// rank is how many items come before path.
func (n *node) rank(path string) int {
	if n == nil {
		return 0
	}
	before := 0
	for n.kids != nil {
		at := n.kid(path)
		for _, k := range n.kids[:at] {
			before += k.count
		}
		n = n.kids[at]
	}
	i, _ := n.search(path)
	return before + i
}

// ascend visits the items from path on, in order, until yield says no.
func (n *node) ascend(from string, yield func(*Item) bool) bool {
	if n == nil {
		return true
	}
	if n.kids == nil {
		i, _ := n.search(from)
		for _, item := range n.items[i:] {
			if !yield(item) {
				return false
			}
		}
		return true
	}
	at := n.kid(from)
	for _, k := range n.kids[at:] {
		if !k.ascend(from, yield) {
			return false
		}
		from = ""
	}
	return true
}
