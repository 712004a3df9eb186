// Short texts to start from. The first is shown when the page opens.
export const EXAMPLES = [
  {
    name: "English",
    language: "en",
    text: "It was a bright morning in early spring, and the whole village had come down to the river to see the boats.",
  },
  { name: "中文", language: "zh", text: "天下大势，分久必合，合久必分。话说春风又绿江南岸，明月何时照我还。" },
  {
    name: "Code",
    language: "en",
    text: 'def shortest_path(graph, source):\n    """Distances from the source."""\n    distance = {source: 0}\n    queue = [source]\n',
  },
  { name: "DNA", language: "en", text: "ATGGCCATTGTAATGGGCCGCTGAAAGGGTGCCCGATAGCTTACGGATTACAATATAAATGCC" },
];
