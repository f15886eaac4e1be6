"""What a row costs, computed: its network composed, its parameters and MACs counted."""
