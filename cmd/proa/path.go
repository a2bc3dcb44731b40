package main

import "path/filepath"

// path is a flag that names a file. It is made absolute when it is read: the process in the
// background has another working directory. "-" and "" stay.
type path struct{ to *string }

func (p path) String() string {
	if p.to == nil {
		return ""
	}
	return *p.to
}

func (path) Type() string { return "file" }

func (p path) Set(value string) error {
	if value != "" && value != "-" {
		absolute, err := filepath.Abs(value)
		if err != nil {
			return err
		}
		value = absolute
	}
	*p.to = value
	return nil
}
