package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Optional is a value that the API may leave out. Where it was absent, null, of
// another type or a time before 1970, Valid is false.
type Optional[T any] struct {
	Value T
	Valid bool
}

// UnmarshalJSON never fails: a value of a wrong type costs itself only.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	*o = Optional[T]{}
	if string(data) == "null" {
		return nil
	}
	var err error
	switch v := any(&o.Value).(type) { // several times faster than another Unmarshal
	case *float64:
		*v, err = strconv.ParseFloat(string(data), 64)
	case *bool:
		if *v = string(data) == "true"; !*v && string(data) != "false" {
			err = errors.New("not a bool")
		}
	case *time.Time:
		if err = v.UnmarshalJSON(data); v.Unix() < 0 {
			err = errors.New("before 1970")
		}
	default:
		err = json.Unmarshal(data, v)
	}
	if o.Valid = err == nil; !o.Valid {
		*o = Optional[T]{}
	}
	return nil
}

// unmarshal decodes JSON into v; a value of a wrong type costs itself only.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	// encoding/json skips such a value, goes on, and tells of the first.
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok || err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
}

// decodeList reads {"embed_jobs": [...]} and calls each for every entry.
func decodeList(r *cappedReader, each func(EmbedJob) error) error {
	dec := json.NewDecoder(r)
	r.decoded = dec.InputOffset
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if key != "embed_jobs" {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return err
			}
			continue
		}
		found = true
		open, err := dec.Token()
		if err != nil {
			return err
		}
		if open == nil { // null: a user without jobs
			continue
		}
		if open != json.Delim('[') {
			return errors.New("embed_jobs is not an array")
		}
		for dec.More() {
			var job EmbedJob
			err := dec.Decode(&job)
			if _, ok := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !ok {
				return err
			}
			if err := each(job); err != nil {
				return err
			}
		}
		if err := expect(dec, json.Delim(']')); err != nil {
			return err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return err
	}
	if !found {
		return errors.New("no embed_jobs")
	}
	return nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%v where %v should be", got, want)
	}
	return nil
}
