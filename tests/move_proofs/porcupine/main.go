// A second opinion on histories: reads one history a line (JSON, see ../history.py) and answers true or false for each.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"

	"github.com/anishathalye/porcupine"
)

type call struct {
	Client   int     `json:"client"`
	Kind     string  `json:"kind"`
	Value    *string `json:"value"`
	Found    *string `json:"found"`
	Invoked  int64   `json:"invoked"`
	Returned *int64  `json:"returned"`
	Outcome  string  `json:"outcome"`
}

// A document's state: its value, or absent.
type register struct {
	there bool
	value string
}

// step returns the states that may follow. An unknown call may also have had no effect.
func step(state, input, _ interface{}) []interface{} {
	before, asked := state.(register), input.(call)
	after, right := before, true
	switch {
	case asked.Kind == "read":
		right = asked.Outcome == "unknown" || (asked.Found != nil) == before.there && (asked.Found == nil || *asked.Found == before.value)
	case asked.Found != nil && (*asked.Found == "yes") != before.there:
		right = false
	case asked.Kind == "delete":
		after = register{}
	case asked.Kind == "upsert" || (asked.Kind == "insert") != before.there:
		after = register{true, *asked.Value}
	}
	states := []interface{}{}
	if right {
		states = append(states, after)
	}
	if asked.Outcome == "unknown" && after != before {
		states = append(states, before)
	}
	return states
}

func linearizable(calls []call) bool {
	operations := []porcupine.Operation{}
	last := int64(0)
	for _, each := range calls {
		last = max(last, each.Invoked)
		if each.Returned != nil {
			last = max(last, *each.Returned)
		}
	}
	sort.SliceStable(calls, func(a, b int) bool { return calls[a].Invoked < calls[b].Invoked })
	for number, each := range calls {
		if each.Outcome == "refused" {
			continue
		}
		returned := last + 1 + int64(number)
		if each.Returned != nil {
			returned = *each.Returned
		}
		// An operation that never returns keeps its client busy, so each gets a client of its own.
		operations = append(operations, porcupine.Operation{ClientId: number, Input: each, Call: each.Invoked, Return: returned})
	}
	model := porcupine.NondeterministicModel{Init: func() []interface{} { return []interface{}{register{}} }, Step: step}
	return porcupine.CheckOperations(model.ToModel(), operations)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, math.MaxInt32)
	for lines.Scan() {
		calls := []call{}
		if err := json.Unmarshal(lines.Bytes(), &calls); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Println(linearizable(calls))
	}
}
