package schema

// Default removes the nulls that are not allowed and have no default, as clients write
// them for what they do not set, and then sets what is absent, or such a null, to its default.
func (s *Schema) Default(obj map[string]any) { s.fill(obj, true) }

// fill does Default on a value, or (change false) says whether there is anything to do.
func (s *Schema) fill(v any, change bool) bool {
	if s == nil {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		return s.fillObject(v, change)
	case []any:
		return s.fillList(v, change)
	}
	return false
}

func (s *Schema) fillObject(obj map[string]any, change bool) (found bool) {
	for name, e := range obj {
		child := s.child(name)
		if e == nil && child != nil && !child.props.Nullable {
			if found = true; !change {
				return true
			}
			if child.hasDefault {
				obj[name] = copyOf(child.fallback)
			} else {
				delete(obj, name)
			}
		}
	}
	if s.anyDefault {
		for name, child := range s.Properties {
			if _, present := obj[name]; !present && child.hasDefault {
				if found = true; !change {
					return true
				}
				obj[name] = copyOf(child.fallback)
			}
		}
	}
	for name, e := range obj {
		if s.child(name).fill(e, change) {
			if found = true; !change {
				return true
			}
		}
	}
	return found
}

func (s *Schema) fillList(list []any, change bool) (found bool) {
	if s.Items == nil {
		return false
	}
	for i := range list {
		if list[i] == nil && s.Items.hasDefault && !s.Items.props.Nullable {
			if found = true; !change {
				return true
			}
			list[i] = copyOf(s.Items.fallback)
		}
		if s.Items.fill(list[i], change) {
			if found = true; !change {
				return true
			}
		}
	}
	return found
}
