// The API key of a server that asks for one, kept until the tab is closed.

const KEY = "hnet-lm-key";

export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const getKey = () => sessionStorage.getItem(KEY);
