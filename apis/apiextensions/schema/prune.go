package schema

import (
	"slices"
	"strconv"
)

// Prune removes the fields of an object that its schema does not name, and gives their paths
// ("spec.list[2].name") in order. The apiVersion, kind and metadata of the object itself and of embedded
// objects always stay; see Metadata for what is in them.
func (s *Schema) Prune(obj map[string]any) []string {
	p := pruner{collect: true, change: true}
	p.object(s, obj, "", true)
	slices.Sort(p.unknown)
	return p.unknown
}

// prune is Prune of a value without anybody to tell.
func (s *Schema) prune(v any, root bool) {
	p := pruner{change: true}
	p.value(s, v, "", root)
}

// Pruned says that Prune would leave the object as it is.
func (s *Schema) Pruned(obj map[string]any) bool {
	p := pruner{}
	p.object(s, obj, "", true)
	return !p.found
}

// Clean says that Prune and Default would leave the object as it is.
func (s *Schema) Clean(obj map[string]any) bool {
	return s.Pruned(obj) && !s.fill(obj, false)
}

// nothing knows no fields.
var nothing = &Schema{props: &Props{}}

type pruner struct {
	collect, change bool
	found           bool
	unknown         []string
}

func (p *pruner) value(s *Schema, v any, path string, root bool) {
	switch v := v.(type) {
	case map[string]any:
		p.object(s, v, path, root)
	case []any:
		items := s.Items
		if items == nil && s.Preserve {
			return
		}
		if items == nil {
			items = nothing
		}
		for i, e := range v {
			p.value(items, e, p.index(path, i), items.Embedded)
			if p.found && !p.change {
				return
			}
		}
	}
}

func (p *pruner) object(s *Schema, obj map[string]any, path string, root bool) {
	for name, v := range obj {
		if root && (name == "apiVersion" || name == "kind" || name == "metadata") {
			continue
		}
		child, known := s.Properties[name]
		switch {
		case known:
		case s.Additional != nil:
			child = s.Additional
		case s.Preserve:
			continue
		case s.anyAdditional:
			child = nothing // any value, but no fields below it are known
		default:
			p.drop(obj, path, name)
			continue
		}
		p.value(child, v, p.field(path, name), child.Embedded)
		if p.found && !p.change {
			return
		}
	}
}

func (p *pruner) drop(obj map[string]any, path, name string) {
	p.found = true
	if p.collect {
		p.unknown = append(p.unknown, p.field(path, name))
	}
	if p.change {
		delete(obj, name)
	}
}

func (p *pruner) field(path, name string) string {
	if !p.collect || path == "" {
		return name
	}
	return path + "." + name
}

func (p *pruner) index(path string, i int) string {
	if !p.collect {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}
