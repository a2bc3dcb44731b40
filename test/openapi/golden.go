package parity

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
)

// Golden is the published documents, comparable. A schema that several documents have alike is
// kept once.
type Golden struct {
	V2 Tree
	V3 map[string]Tree // by name as in the index: api/v1
}

// stored is how it is kept: the schemas of version 3 documents are numbers into Schemas.
type stored struct {
	V2      Tree            `json:"v2"`
	V3      map[string]Tree `json:"v3"`
	Schemas []Tree          `json:"schemas"`
}

// Pack makes the file. It changes g.
func Pack(g Golden) ([]byte, error) {
	s := stored{V2: g.V2, V3: g.V3}
	numbers := map[string]int{}
	for name, doc := range g.V3 {
		schemas := schemasOf(doc)
		for key, v := range schemas {
			raw, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("encode schema %s of %s: %w", key, name, err)
			}
			if _, known := numbers[string(raw)]; !known {
				numbers[string(raw)] = len(s.Schemas)
				tree, _ := v.(Tree)
				s.Schemas = append(s.Schemas, tree)
			}
			schemas[key] = numbers[string(raw)]
		}
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return b.Bytes(), nil
}

// Unpack reads the file.
func Unpack(packed []byte) (Golden, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return Golden{}, fmt.Errorf("uncompress: %w", err)
	}
	var s stored
	if err := json.NewDecoder(z).Decode(&s); err != nil {
		return Golden{}, fmt.Errorf("decode: %w", err)
	}
	for name, doc := range s.V3 {
		schemas := schemasOf(doc)
		for key, v := range schemas {
			number, ok := v.(float64)
			if !ok || number < 0 || int(number) >= len(s.Schemas) {
				return Golden{}, fmt.Errorf("schema %s of %s is number %v", key, name, v)
			}
			schemas[key] = s.Schemas[int(number)]
		}
	}
	return Golden{s.V2, s.V3}, nil
}

func schemasOf(doc Tree) Tree {
	components, _ := doc["components"].(Tree)
	schemas, _ := components["schemas"].(Tree)
	return schemas
}
